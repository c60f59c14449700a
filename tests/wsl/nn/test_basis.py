"""The terms: their number, and pooling and broadcasting by each."""

import itertools
import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsl import WeightSpace
from wsl.nn._basis import find_basis, Index, partitions, Pattern, patterns, symmetries
from wsl.nn._basis_apply import broadcast, diagonal, place_diagonal, pool


_BELL = [1, 1, 2, 5, 15, 52, 203]


def _count(space, *, near=False):
    """Terms, each value of a fixed index counted."""
    basis = find_basis(space, near=near)

    def entries(ends):
        return sum(
            basis.layouts[leaf].fixed
            for s, _ in ends
            for leaf in basis.signatures[s].leaves
        )

    return sum(entries(mix.inputs) * entries(mix.outputs) for mix in basis.mixes)


def _perceptron(sizes, *, free):
    names = ["in", *(f"h{i}" for i in range(1, len(sizes) - 1)), "out"]
    weights, spec = {}, {}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        weights[f"w{i}"] = jax.ShapeDtypeStruct((fan_out, fan_in), jnp.float32)
        weights[f"b{i}"] = jax.ShapeDtypeStruct((fan_out,), jnp.float32)
        spec[f"['w{i}']"] = (names[i + 1], names[i])
        spec[f"['b{i}']"] = (names[i + 1],)
    space = WeightSpace.from_spec(weights, spec, fixed=["in", "out"])
    return space.unfix("in", "out") if free else space


def _space(**leaves):
    """A space of leaves given by names of groups; all groups have 3 indices."""
    weights = {
        name: jax.ShapeDtypeStruct((3,) * len(groups), jnp.float32)
        for name, groups in leaves.items()
    }
    spec = {f"['{name}']": tuple(groups) for name, groups in leaves.items()}
    return WeightSpace.from_spec(weights, spec)


@pytest.mark.parametrize("depth", [2, 3, 4, 6, 8, 16])
def test_number_of_terms_of_a_free_perceptron(depth):
    space = _perceptron([3] * (depth + 1), free=True)
    assert _count(space) == 4 * depth**2 + 10 * depth - 4


@pytest.mark.parametrize(
    ("sizes", "terms"),
    [
        ([2, 32, 32, 1], 75),
        ([64, 16, 16, 10], 12_070),
        ([17, 256, 256, 6], 1_450),
        ([784, 128, 10], 1_280_050),
    ],
)
def test_number_of_terms_with_fixed_inputs_and_outputs(sizes, terms):
    assert _count(_perceptron(sizes, free=False)) == terms


def test_number_of_terms_of_recurrent_leaves():
    assert _count(_space(w="hh")) == 15
    assert _count(_space(b="h", u="hi", w="hh", o="oh", c="o")) == 81


def test_number_of_terms_is_the_product_of_bell_numbers():
    leaves = {"a": "ghg", "b": "gk", "c": "hhk", "d": "", "e": "ggg"}
    expected = 0
    for into, out_of in itertools.product(leaves.values(), repeat=2):
        expected += math.prod(_BELL[n] for n in Counter(into + out_of).values())
    assert _count(_space(**leaves)) == expected


def test_near_terms_grow_with_depth_and_not_with_its_square():
    # Of a hidden weight from itself 3, from each neighbour 1, and so on; the term that
    # carries nothing is left out.
    counts = [
        _count(_perceptron([3] * (depth + 1), free=True), near=True)
        for depth in (4, 5, 6, 7)
    ]
    assert len(set(np.diff(counts))) == 1
    # The full one has a term without index between each of its 2 L leaves.
    assert counts[0] == 4 * 4**2 + 10 * 4 - 4 - (2 * 4) ** 2


def test_near_terms_of_leaves_without_indices():
    # g to g: the entry. Between g and the two others, and among these: all.
    space = _space(a="g", s="", t="")
    assert _count(space, near=True) == 1 + 2 * 2 + 2 * 2
    assert _count(_space(s="", t=""), near=True) == 4


def test_partitions_of_nested_indices():
    # Two heads and a unit in each: units are equal only if their heads are.
    form = (Index("h", None), Index("u", 0), Index("h", None), Index("u", 2))
    assert sorted(partitions(form)) == [
        ((0,), (1,), (2,), (3,)),
        ((0, 2), (1,), (3,)),
        ((0, 2), (1, 3)),
    ]
    # The other order of head and unit makes no difference.
    swapped = (Index("u", 1), Index("h", None), Index("u", 3), Index("h", None))
    assert len(partitions(swapped)) == 3
    # A unit is kept only with its head.
    kept = {pattern.kept for pattern in patterns(form[:2])}
    assert kept == {(), (0,), (0, 1)}


def test_symmetries_of_nested_indices():
    form = (Index("h", None), Index("u", 0), Index("h", None), Index("u", 2))
    assert sorted(symmetries(form)) == [(0, 1, 2, 3), (2, 3, 0, 1)]
    assert sorted(symmetries((Index("g", None),) * 3)) == sorted(
        itertools.permutations(range(3))
    )


_BLOCKS = [
    (((0,), (1,), (2,)), "ijk->ijk"),
    (((0, 1), (2,)), "iik->ik"),
    (((0, 2), (1,)), "iji->ij"),
    (((0,), (1, 2)), "ijj->ij"),
    (((0, 1, 2),), "iii->i"),
]


@pytest.mark.parametrize(("blocks", "indices"), _BLOCKS)
def test_diagonals(blocks, indices):
    tensor = jnp.asarray(np.random.default_rng(0).standard_normal((3, 3, 3, 2)))
    before, after = indices.split("->")
    expected = np.einsum(f"{before}c->{after}c", tensor)
    np.testing.assert_array_equal(diagonal(tensor, blocks), expected)
    placed = np.asarray(place_diagonal(jnp.asarray(expected), blocks))
    np.testing.assert_array_equal(np.einsum(f"{before}c->{after}c", placed), expected)
    # And nothing off it.
    np.testing.assert_allclose(np.abs(placed).sum(), np.abs(expected).sum(), rtol=1e-6)


def test_pooling_and_broadcasting_by_hand():
    random = np.random.default_rng(1)
    tensor = random.standard_normal((3, 3, 2, 4)).astype(np.float32)
    form = (Index("g", None), Index("g", None), Index("h", None))
    every = patterns(form)
    expected, parts, total = [], {}, 0
    for blocks, kept in every:
        letters = [""] * 3
        for b, block in enumerate(blocks):
            for i in block:
                letters[i] = "xyz"[b]
        left = "".join(letters)
        right = "".join("xyz"[b] for b in kept)
        count = math.prod(
            (3, 3, 2)[block[0]] for b, block in enumerate(blocks) if b not in kept
        )
        expected.append(np.einsum(f"{left}c->{right}c", tensor) / count)
        part = random.standard_normal(expected[-1].shape).astype(np.float32)
        parts[blocks, kept] = jnp.asarray(part)
        # One entry of the result at a time.
        spread = np.zeros((3, 3, 2, 4), np.float32)
        for place in itertools.product(range(3), range(3), range(2)):
            if all(len({place[i] for i in block}) == 1 for block in blocks):
                spread[place] = part[tuple(place[blocks[b][0]] for b in kept)]
        total += spread
    pooled = pool(jnp.asarray(tensor), form, every)
    for array, other in zip(pooled, expected, strict=True):
        np.testing.assert_allclose(array, other, atol=1e-6)
    result = broadcast(parts, form, (3, 3, 2))
    np.testing.assert_allclose(result, total, atol=1e-5)
    # Axes come in the order in which they are kept.
    finest = ((0,), (1,), (2,))
    (turned,) = pool(jnp.asarray(tensor), form, [Pattern(finest, (2, 0))])
    np.testing.assert_allclose(turned, np.einsum("ijkc->kic", tensor) / 3, atol=1e-6)
