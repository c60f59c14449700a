"""The index sets that an inference tells apart."""

import math
from collections.abc import Iterable
from typing import NamedTuple


class Reason(NamedTuple):
    """Why nothing may move an index set.

    Attributes:
        text: In a few words.
        primitive: The primitive that could not be followed, if that is why.
    """

    text: str
    primitive: str | None = None


class IndexSets:
    """Index sets: which are the same, which are products of others, which are fixed.

    Knowledge only grows: sets are split into products, found to be the same, fixed. An
    inference repeats until nothing changes, which `changes` counts.

    Attributes:
        changes: How often something was learnt.
        blamed: Primitives that fixed what was free, in order.
        ties: Operations that made free sets one that need not be, in order.
        demands: Where operations would cut sets, which makes a sum of each.
    """

    changes: int
    blamed: list[str]
    ties: list[str]
    demands: dict[int, set[int]]

    def __init__(self):
        """Starts without any set."""
        self.changes = 0
        self.blamed = []
        self.ties = []
        self.demands = {}
        self._sizes: list[int] = []
        self._links: list[int] = []
        self._parts: dict[int, tuple[int, int]] = {}
        self._reasons: dict[int, Reason] = {}

    def new(self, size: int, reason: Reason | None = None) -> int:
        """Adds a set; without a reason to be fixed, it is free."""
        index_set = len(self._sizes)
        self._sizes.append(size)
        self._links.append(index_set)
        if reason is not None:
            self._reasons[index_set] = reason
        return index_set

    def resolve(self, index_set: int) -> list[int]:
        """The sets, no products themselves, of which a set is the product."""
        root = self._root(index_set)
        if root not in self._parts:
            return [root]
        outer, inner = self._parts[root]
        return [*self.resolve(outer), *self.resolve(inner)]

    def size(self, index_set: int) -> int:
        """How many indices a set has."""
        return self._sizes[index_set]

    def reason(self, index_set: int) -> Reason | None:
        """Why a set that is no product is fixed; None if it is free."""
        return self._reasons.get(self._root(index_set))

    def demand(self, index_set: int, points: Iterable[int]) -> None:
        """Notes that an operation cuts a set into stretches."""
        inside = {p for p in points if 0 < p < self.size(index_set)}
        self.demands.setdefault(index_set, set()).update(inside)

    def demanded(self) -> dict[int, set[int]]:
        """Where sets that are no products are cut, by set.

        A cut through a product is one of its first part, if it falls between blocks.
        """
        found: dict[int, set[int]] = {}
        for index_set, points in self.demands.items():
            roots = self.resolve(index_set)
            inner = math.prod(map(self.size, roots[1:]))
            if all(p % inner == 0 for p in points):
                found.setdefault(roots[0], set()).update(p // inner for p in points)
        return found

    def freeze(self, index_set: int, reason: Reason) -> None:
        """Fixes a set; the first reason stays."""
        for root in self.resolve(index_set):
            if root not in self._reasons:
                self._reasons[root] = reason
                self.changes += 1
                if reason.primitive not in (None, *self.blamed):
                    self.blamed.append(reason.primitive)

    def split(self, index_set: int, outer: int) -> tuple[int, int]:
        """Makes a set, no product yet, the row-major product of two new ones.

        Args:
            index_set: The set.
            outer: Size of the first part.

        Returns:
            The parts.
        """
        root = self._root(index_set)
        reason = self._reasons.get(root)
        parts = (self.new(outer, reason), self.new(self.size(root) // outer, reason))
        self._parts[root] = parts
        self.changes += 1
        return parts

    def unify(self, first: int, second: int) -> int:
        """Makes two sets of the same size, no products, the same one."""
        first, second = sorted((self._root(first), self._root(second)))
        if first != second:
            self._links[second] = first
            reasons = (self._reasons.get(first), self._reasons.pop(second, None))
            if (reason := reasons[0] or reasons[1]) is not None:
                self._reasons[first] = reason
            self.changes += 1
        return first

    def _root(self, index_set: int) -> int:
        while (above := self._links[index_set]) != index_set:
            self._links[index_set] = self._links[above]
            index_set = above
        return index_set
