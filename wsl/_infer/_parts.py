"""What the axes of an intermediate array run over, and how axes are brought in line."""

import dataclasses
import math
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from wsl._infer._store import IndexSets, Reason


@dataclasses.dataclass(eq=False, slots=True)
class Part:
    """A part of an axis: a free or fixed index set, or one of two without a name.

    With an index set, a permutation of it permutes the part. Without one nothing
    permutes it, either because it is *fixed*, for a reason, or because the array is
    *uniform* along it: the same numbers at every index, whatever the weights.

    Attributes:
        size: How many indices it has.
        index_set: What they are.
        reason: Why it is fixed, where it has no index set.
        block: Where the index set is taken to be nested in another: the part of the
            same array that holds the index of its block.
        joined: The part of the result into which an operation joined this one.
    """

    size: int
    index_set: int | None = None
    reason: Reason | None = None
    block: "Part | None" = None
    joined: "Part | None" = None

    @property
    def uniform(self) -> bool:
        """Whether the array is the same at every index."""
        return self.index_set is None and self.reason is None


Axis: TypeAlias = list[Part]
"""Parts in row-major order; none for an axis of length 1."""


class Value(NamedTuple):
    """An intermediate array, as an inference sees it: the parts of every axis."""

    axes: tuple[Axis, ...]

    def parts(self) -> Iterator[Part]:
        """The parts of all axes, in order."""
        return (part for axis in self.axes for part in axis)


_MISALIGNED = Reason("axes that factor differently")


class Tracker:
    """Aligns axes, and learns from it which index sets are the same or fixed.

    Attributes:
        sets: The index sets.
        nested: Hypotheses: index sets, and those in whose blocks they are nested.
            What an operation contradicts is taken out.
        exploring: Whether cuts are noted, as `demands` of the sets, and what is cut is
            followed no further. Nothing that is learnt then is relied upon.
    """

    sets: IndexSets
    nested: dict[int, int]
    exploring: bool

    def __init__(self, sets: IndexSets, *, exploring: bool = False):
        """Starts without hypotheses."""
        self.sets = sets
        self.nested = {}
        self.exploring = exploring
        self._stretches: dict[Hashable, int] = {}

    # Axes.

    def fixed(self, size: int, reason: Reason) -> Axis:
        """An axis that nothing permutes."""
        return [Part(size, None, reason)] if size > 1 else []

    def uniform(self, size: int) -> Axis:
        """An axis along which an array is constant."""
        return [Part(size)] if size > 1 else []

    def is_uniform(self, axis: Axis) -> bool:
        """Whether an array is constant along an axis."""
        return all(part.uniform for part in axis)

    def freeze(self, axis: Iterable[Part], reason: Reason) -> None:
        """Fixes all index sets of an axis."""
        for part in axis:
            if part.index_set is not None:
                self.sets.freeze(part.index_set, reason)

    def why_fixed(self, axis: Axis) -> Reason | None:
        """The first reason, if all of an axis is fixed already."""
        reasons = [
            s.reason if s.index_set is None else self.sets.reason(s.index_set)
            for s in axis
        ]
        return reasons[0] if reasons and all(reasons) else None

    def fix(self, axis: Axis, size: int, reason: Reason) -> Axis:
        """Fixes an axis, and gives what an operation that mixes its indices leaves."""
        self.freeze(axis, reason)
        return self.fixed(size, reason)

    def align(self, first: Axis, *others: Axis) -> Axis:
        """Brings axes of one length in line, whose indices an operation identifies."""
        for other in others:
            first = self._align(first, other)
        return first

    def tie(self, axes: Sequence[Axis], operation: str) -> Axis:
        """Aligns axes side by side, whose free indices need not be the same.

        A sum of index sets has no name of its own, so that one permutation has to move
        all of them; the tie is recorded.
        """
        free = [[s for s in axis if self._is_free(s)] for axis in axes]
        sets = {s.index_set for axis in free for s in axis}
        if all(free) and len(sets) > max(map(len, free)):
            if operation not in self.sets.ties:
                self.sets.ties.append(operation)
        return self.align(*axes)

    def _is_free(self, part: Part) -> bool:
        return part.index_set is not None and self.sets.reason(part.index_set) is None

    def align_arrays(self, values: Sequence[Value]) -> Value:
        """Brings arrays of one shape in line, axis by axis."""
        axes = zip(*(value.axes for value in values), strict=True)
        return Value(tuple(self.align(*same) for same in axes))

    def regroup(self, axis: Axis, sizes: Sequence[int]) -> list[Axis]:
        """Cuts an axis into axes of which it is the row-major product."""
        queue, needed = deque(axis), list(sizes)
        cut: list[Axis] = [[] for _ in sizes]
        for at in range(len(sizes)):
            while needed[at] > 1:
                part = self._pop(queue)
                if needed[at] % part.size == 0:
                    cut[at].append(part)
                    needed[at] //= part.size
                elif part.size % needed[at] == 0:
                    queue.extendleft(reversed(self._split(part, needed[at])))
                else:
                    self._give_up(part, queue, cut, needed, at)
        return cut

    def _give_up(
        self,
        part: Part,
        queue: deque[Part],
        cut: list[Axis],
        needed: list[int],
        at: int,
    ) -> None:
        """Fixes parts that no cut agrees with, up to where one does."""
        taken, last = [part], at
        while (have := math.prod(s.size for s in taken)) != (
            want := math.prod(needed[at : last + 1])
        ):
            if have < want:
                taken.append(self._pop(queue))
            else:
                last += 1
        self.freeze(taken, _MISALIGNED)
        for i in range(at, last + 1):
            cut[i] += (
                self.uniform(needed[i])
                if self.is_uniform(taken)
                else self.fixed(needed[i], _MISALIGNED)
            )
            needed[i] = 1

    def _align(self, first: Axis, second: Axis) -> Axis:
        left, right, aligned = deque(first), deque(second), []
        while left and right:
            x, y = self._pop(left), self._pop(right)
            if x.size == y.size:
                aligned.append(self._join(x, y))
            elif x.size % y.size == 0:
                left.extendleft(reversed(self._split(x, y.size)))
                right.appendleft(y)
            elif y.size % x.size == 0:
                left.appendleft(x)
                right.extendleft(reversed(self._split(y, x.size)))
            else:
                taken, below, above = [x, y], x.size, y.size
                while below != above:
                    taken.append(self._pop(left if below < above else right))
                    if below < above:
                        below *= taken[-1].size
                    else:
                        above *= taken[-1].size
                self.freeze(taken, _MISALIGNED)
                aligned += self.fixed(below, _MISALIGNED)
        if left or right:
            raise AssertionError("Axes of different lengths cannot be aligned.")
        return aligned

    def _join(self, x: Part, y: Part) -> Part:
        if x.index_set is not None and y.index_set is not None:
            joined = Part(x.size, self.sets.unify(x.index_set, y.index_set))
        else:
            # A fixed part fixes an index set; a uniform one yields to anything.
            reason = x.reason or y.reason
            index_set = x.index_set if x.index_set is not None else y.index_set
            if index_set is not None and reason is not None:
                self.sets.freeze(index_set, reason)
            joined = Part(x.size, index_set, None if index_set is not None else reason)
        for end in (_end(x), _end(y)):
            if end is not joined:
                end.joined = joined
        return joined

    def _pop(self, queue: deque[Part]) -> Part:
        """The next part that is no product; others are split as they come."""
        part = queue.popleft()
        if part.index_set is None:
            return part
        first, *rest = self.sets.resolve(part.index_set)
        if not rest:
            part.index_set = first
            return part
        queue.extendleft(Part(self.sets.size(s), s) for s in reversed(rest))
        return Part(self.sets.size(first), first)

    def _split(self, part: Part, outer: int) -> list[Part]:
        sizes = (outer, part.size // outer)
        if part.index_set is None:
            return [Part(size, None, part.reason) for size in sizes]
        return list(map(Part, sizes, self.sets.split(part.index_set, outer)))

    # Cuts.

    def explore(
        self, axis: Axis, spans: Sequence[tuple[int, int]], place: Hashable
    ) -> list[Axis] | None:
        """Notes where an axis is cut; None where that is not a cut of one part.

        Args:
            axis: The axis.
            spans: The stretches that are taken of it.
            place: What tells this cut from others.

        Returns:
            The stretches, as sets of their own.
        """
        first, *rest = axis or [Part(1)]
        inner = math.prod(part.size for part in rest)
        points = {point for span in spans for point in span}
        if not self.exploring or first.index_set is None:
            return None
        if any(point % inner for point in points):
            return None
        self.sets.demand(first.index_set, (point // inner for point in points))
        axes = []
        for span in spans:
            size = (span[1] - span[0]) // inner
            made = self._stretches.get((place, span))
            if made is None:
                made = self.sets.new(size, self.sets.reason(first.index_set))
                self._stretches[place, span] = made
            copies = [Part(p.size, p.index_set, p.reason) for p in rest]
            axes.append([Part(size, made), *copies] if size > 1 else copies)
        return axes

    # Operations.

    def operand(self, value: Value) -> Value:
        """A copy of an array's parts for one operation, products split."""
        copies: dict[Part, Part] = {}
        axes: list[Axis] = []
        for axis in value.axes:
            queue, copied = deque(axis), []
            while queue:
                part = self._pop(queue)
                last = copied[-1] if copied else None
                if (
                    last is not None
                    and last.index_set is None
                    and part.index_set is None
                    and last.uniform == part.uniform
                ):
                    last.size *= part.size
                else:
                    copied.append(Part(part.size, part.index_set, part.reason))
                    copies[part] = copied[-1]
                    copied[-1].block = part.block
            axes.append(copied)
        for part in copies.values():
            if part.block is not None:
                part.block = copies.get(part.block)
        return Value(tuple(axes))

    def results(
        self, operands: Sequence[Value], results: Sequence[Value]
    ) -> list[Value]:
        """Ends an operation: gives its results, and tests the nesting hypotheses.

        Parts that the operation joined must lie in blocks that it joined too, and no
        block may go before what lies in it.

        Args:
            operands: Copies of the operands' parts.
            results: What a rule made of them.

        Returns:
            The results, each with parts of its own.
        """
        blocks: dict[Part, Part] = {}
        for value in operands:
            for part in value.parts():
                if part.index_set in self.nested:
                    block = None if part.block is None else _end(part.block)
                    if block is None or blocks.setdefault(_end(part), block) != block:
                        del self.nested[part.index_set]
        return [self._result(value, blocks) for value in results]

    def _result(self, value: Value, blocks: dict[Part, Part]) -> Value:
        made: dict[Part, list[Part]] = {}
        axes = []
        for axis in value.axes:
            axes.append([Part(s.size, s.index_set, s.reason) for s in axis])
            for part, copy in zip(axis, axes[-1], strict=True):
                made.setdefault(_end(part), []).append(copy)
        for part, copies in made.items():
            for copy in copies:
                if copy.index_set in self.nested:
                    held = made.get(blocks[part], []) if part in blocks else []
                    if len(held) == 1:
                        copy.block = held[0]
                    else:
                        del self.nested[copy.index_set]
        return Value(tuple(axes))

    def merge(self, values: Sequence[Value]) -> Value:
        """An array that may be any of several: branches, rounds of a loop."""
        operands = [self.operand(value) for value in values]
        (merged,) = self.results(operands, [self.align_arrays(operands)])
        return merged

    def signature(self, value: Value) -> tuple:
        """What tells values apart."""
        value = self.operand(value)
        parts = list(value.parts())
        return tuple(
            tuple(
                (
                    part.size,
                    part.index_set,
                    part.uniform,
                    parts.index(part.block)
                    if part.block is not None and part.index_set in self.nested
                    else None,
                )
                for part in axis
            )
            for axis in value.axes
        )


def _end(part: Part) -> Part:
    while part.joined is not None:
        part = part.joined
    return part
