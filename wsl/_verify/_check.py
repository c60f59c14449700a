"""A function and its weights, with the means to permute them and see what changes."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from wsl._space import (
    enclosing,
    identity,
    is_weight,
    Leaf,
    permute_leaves,
    Slot,
    take,
    WeightSpace,
)
from wsl._verify._rounding import (
    arrays_of,
    jitter,
    longest_sum,
    make_ruler,
    Ruler,
    with_noise,
)


UNUSED, UNIFORM = "the function ignores the leaf", "the leaf is uniform"
FREE = "moves on its own"


class Check(NamedTuple):
    """A function of pieces, with what it returns on some, and the means to move them.

    Changes of outputs are in units of the tolerance.
    """

    space: WeightSpace
    run: Callable[[Sequence[Any]], list[np.ndarray]]
    leaves: list[np.ndarray]
    ruler: Ruler
    num_samples: int
    random: np.random.Generator

    @classmethod
    def make(
        cls,
        space: WeightSpace,
        fn: Callable[..., Any],
        inputs: Sequence[PyTree],
        num_samples: int,
        noise: float,
        random: np.random.Generator,
        *,
        scale: float = 1.0,
        kept: Collection[int] = (),
    ) -> "Check":
        """Prepares a check.

        Args:
            space: The space.
            fn: A model with weights of it, or a function of them.
            inputs: What follows; of a function, the weights first.
            num_samples: How often what is random is drawn.
            noise: Relative size of the noise on weights.
            random: Source of randomness.
            scale: What the weights are multiplied by before that.
            kept: Numbers of the pieces that stay as they are.

        Returns:
            The check.
        """
        compiled = eqx.filter_jit(_call)
        if jax.tree.structure(_floats(fn)) == space.treedef and space.leaves:
            model, function = fn, None
        elif inputs:
            (model, *inputs), function = inputs, fn
        else:
            raise ValueError(
                "Nothing to check: give a model with weights of this space, or a "
                "function and its inputs, the weights first."
            )
        leaves = space.cut([np.asarray(x) for x in space.weight_leaves(model)])
        rest = eqx.filter(model, is_weight, inverse=True)

        def run(leaves: Sequence[Any], inputs: Sequence[PyTree] = inputs):
            weights = jax.tree.unflatten(
                space.treedef, [jax.device_put(x) for x in space.join(leaves)]
            )
            with jax.default_matmul_precision("highest"):
                outputs = compiled(function, eqx.combine(weights, rest), *inputs)
            return arrays_of(outputs)

        drawn = [np.asarray(scale * leaf, leaf.dtype) for leaf in leaves]
        drawn = with_noise(drawn, noise, random) if noise else drawn
        leaves = [leaves[i] if i in kept else x for i, x in enumerate(drawn)]
        jittered = [
            run(jitter(leaves, random), jitter(inputs, random))
            for _ in range(num_samples)
        ]
        ruler = make_ruler(run(leaves), jittered, longest_sum(space))
        return cls(space, run, leaves, ruler, num_samples, random)

    def change(self, leaves: Sequence[Any]) -> float:
        return self.ruler.ratio(self.run(leaves))

    def coupled(self, groups: Sequence[str]) -> float:
        """The largest change when groups move all their leaves together."""
        return max(
            self.change(self._moved(groups, self.random))
            for _ in range(self.num_samples)
        )

    def _moved(self, groups: Sequence[str], random: np.random.Generator) -> list[Any]:
        shapes = self.space.element_shapes()
        element = identity(shapes)
        for group in groups:
            element[group] = _derangement(shapes[group], random)
        return permute_leaves(self.space.pieces, self.leaves, element)

    def alone(self, i: int, slot: Slot, samples: int) -> tuple[float, str]:
        """The largest change when one slot of one leaf moves; if small, why."""
        leaf = self.space.pieces[i]
        chain = enclosing(slot, leaf.slots)
        factors = self.leaves[i].reshape(leaf.layout.sizes)
        largest, uniform = 0.0, True
        for _ in range(samples):
            permutation = _derangement(tuple(s.size for s in chain), self.random)
            moved = take(factors, [s.dimension for s in chain], permutation)
            moved = moved.reshape(self.leaves[i].shape)
            uniform = uniform and np.array_equal(moved, self.leaves[i])
            largest = max(largest, self.change(self._with(i, moved)))
        if largest > 1:
            return largest, ""
        if uniform:
            return largest, UNIFORM
        (other,) = with_noise([self.leaves[i]], 0.5, self.random)
        used = self.change(self._with(i, other)) > 1
        return largest, FREE if used else UNUSED

    def _with(self, i: int, leaf: np.ndarray) -> list[np.ndarray]:
        return [*self.leaves[:i], leaf, *self.leaves[i + 1 :]]

    def blame(self, group: str) -> int:
        """The leaf for which other axes than the space's mend the group best."""
        size = self.space.groups[group]
        # A stream of its own: what was drawn before decides nothing.
        random = self.random.spawn(1)[0]
        permutation = _derangement((size,), random)
        # Every block moves alike, so that any axis of the right length can follow.
        present = [
            frozenset(slot.dimension for slot in leaf.slots if slot.group == group)
            for leaf in self.space.pieces
        ]
        moved = [
            _move(array, leaf.layout.sizes, dimensions, permutation)
            for array, leaf, dimensions in zip(
                self.leaves, self.space.pieces, present, strict=True
            )
        ]
        if self.change(moved) <= 1:
            return self._blame_blocks(group, random)
        best: dict[int, tuple[bool, bool, float]] = {}
        for i, leaf in enumerate(self.leaves):
            for sizes, dimensions in _choices(self.space.pieces[i], size):
                other = _move(leaf, sizes, dimensions, permutation)
                change = self.change([*moved[:i], other, *moved[i + 1 :]])
                rest = any(present[:i]) or any(present[i + 1 :]) or bool(dimensions)
                # A cure that leaves the group nothing to move is the last resort.
                rank = (change > 1, not rest, change)
                best[i] = min(best.get(i, rank), rank)
        return _first_of_the_least(best)

    def _blame_blocks(self, group: str, random: np.random.Generator) -> int:
        """The same where only permutations that differ between blocks do harm."""
        moved = self._moved([group], random)
        without = {
            i: (self.change([*moved[:i], self.leaves[i], *moved[i + 1 :]]),)
            for i, leaf in enumerate(self.space.pieces)
            if any(slot.group == group for slot in leaf.slots)
        }
        return _first_of_the_least(without)


def _first_of_the_least(ranks: dict[int, tuple[*tuple[bool, ...], float]]) -> int:
    """The first whose change, the last of its rank, is the least but for rounding."""
    least = min(ranks.values())
    return next(
        i
        for i, rank in ranks.items()
        if rank[:-1] == least[:-1] and rank[-1] <= least[-1] + 1
    )


def _call(function: Callable[..., Any] | None, model: Any, *inputs: PyTree) -> Any:
    return model(*inputs) if function is None else function(model, *inputs)


def _floats(tree: PyTree) -> PyTree:
    return eqx.filter(tree, is_weight)


def _derangement(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Permutations of the last axis, none of which is the identity if it can help."""
    unmoved = np.broadcast_to(np.arange(shape[-1]), shape)
    permutations = random.permuted(unmoved, axis=-1)
    idle = np.all(permutations == unmoved, axis=-1, keepdims=True)
    return np.where(idle, np.roll(unmoved, 1, axis=-1), permutations)


def _move(
    leaf: np.ndarray,
    sizes: tuple[int, ...],
    dimensions: Iterable[int],
    permutation: np.ndarray,
) -> np.ndarray:
    """Permutes some factors of a leaf alike."""
    factors = leaf.reshape(sizes)
    for dimension in dimensions:
        factors = take(factors, [dimension], permutation)
    return factors.reshape(leaf.shape)


def _choices(
    leaf: Leaf, size: int
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All ways for a group of a size to move one leaf: factors, and which move."""
    options = [
        _axis_choices(length, tuple(factor.size for factor in factors), size)
        for length, factors in zip(leaf.shape, leaf.axes, strict=True)
    ]
    for chosen in itertools.islice(itertools.product(*options), 256):
        sizes, dimensions = (), ()
        for factors, moving in chosen:
            dimensions += tuple(len(sizes) + d for d in moving)
            sizes += factors
        yield sizes, dimensions


def _axis_choices(
    length: int, factors: tuple[int, ...], size: int
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    fitting = [d for d, n in enumerate(factors) if n == size]
    choices = [
        (factors, chosen)
        for count in range(len(fitting) + 1)
        for chosen in itertools.combinations(fitting, count)
    ]
    if length > size and length % size == 0:
        others = [((length // size, size), (1,)), ((size, length // size), (0,))]
        choices += [choice for choice in others if choice not in choices]
    return choices
