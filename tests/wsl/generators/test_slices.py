"""Slices: cutting, joining, kinds, and who gets gradients."""

import functools

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given

from tests.helpers import examples
from tests.wsl.generators.helpers import make_mlp
from tests.wsl.helpers import array, call
from wsl import WeightSpace
from wsl.generators import LeafSlices, SliceHyperNetwork
from wsl.generators._slices import plan_slices


def _space(*shapes):
    leaves = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return WeightSpace.from_spec(leaves)


def _numpy_slices(leaf, shape):
    """One slice after the other, with loops."""
    padded = np.zeros([-(-n // m) * m for n, m in zip(leaf.shape, shape, strict=True)])
    padded[tuple(slice(n) for n in leaf.shape)] = leaf
    starts = np.ndindex(*(n // m for n, m in zip(padded.shape, shape, strict=True)))
    return [
        padded[
            tuple(slice(i * m, i * m + m) for i, m in zip(at, shape, strict=True))
        ].ravel()
        for at in starts
    ]


@examples(12)
@given(st.lists(st.integers(1, 7), max_size=4), st.integers(1, 4), st.integers(1, 8))
def test_round_trip_on_sizes_that_do_not_divide(shape, rows, columns):
    shape = tuple(shape)
    (plan,) = plan_slices(_space(shape), (rows, columns), None, {})
    expected = tuple(map(min, zip(shape, (rows, columns), strict=False)))
    assert plan.slice_shape == expected + shape[2:]
    leaf = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    cut = call(plan.cut, array(leaf))
    np.testing.assert_array_equal(cut, _numpy_slices(leaf, plan.slice_shape))
    assert cut.shape[0] == plan.num_slices
    np.testing.assert_array_equal(call(plan.join, cut), leaf)


def test_join_by_hand():
    plan = LeafSlices("", "", (2, 3), (2, 2), (1, 2))
    slices = jnp.array([[1.0, 2, 4, 5], [3, -1, 6, -1]])
    np.testing.assert_array_equal(plan.join(slices), [[1, 2, 3], [4, 5, 6]])
    # Control: transposed slices are another leaf.
    turned = slices.reshape(2, 2, 2).swapaxes(1, 2).reshape(2, 4)
    assert not np.array_equal(plan.join(turned), plan.join(slices))


def test_kinds_by_shape_of_the_slice():
    plans = plan_slices(
        _space((20, 3), (20,), (20, 20), (20,), (2, 20), ()), (16, 16), None, {}
    )
    assert [p.kind for p in plans] == ["16, 3", "16", "16, 16", "16", "2, 16", "scalar"]
    assert [p.grid for p in plans] == [(2, 1), (2,), (2, 2), (2,), (1, 2), ()]


def test_kinds_by_role():
    # Inputs of 30 are cut without a space, and whole with one.
    shapes = ((32, 30), (32,), (32, 32), (3, 32), (3,))
    leaves = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    spec = {
        "[0]": ("h0", "inputs"),
        "[1]": ("h0",),
        "[2]": ("h1", "h0"),
        "[3]": (None, "h1"),
        "[4]": (None,),
    }
    space = WeightSpace.from_spec(leaves, spec, fixed=["inputs"])
    plans = plan_slices(_space(*shapes), (16, 16), space, {})
    assert [p.slice_shape for p in plans] == [(16, 30), (16,), (16, 16), (3, 16), (3,)]
    assert [p.kind for p in plans] == [
        "16 hidden, 30 inputs",
        "16 hidden",
        "16 hidden, 16 hidden",
        "3 fixed, 16 hidden",
        "3 fixed",
    ]
    plain = plan_slices(_space(*shapes), (16, 16), None, {})
    assert plain[0].kind == plain[2].kind == "16, 16"


def test_kinds_of_gates():
    # Three gates of 4 units each: not the same as 12 hidden units.
    shapes = ((12,), (12,))
    leaves = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    spec = {"[0]": ((3, "units"),), "[1]": ("hidden",)}
    plans = plan_slices(
        _space(*shapes), (4, 4), WeightSpace.from_spec(leaves, spec), {}
    )
    assert [p.kind for p in plans] == ["4 fixed x hidden", "4 hidden"]


def test_kinds_by_name():
    shapes = ((8, 8), (8, 8), (8,))
    plans = plan_slices(_space(*shapes), (4, 4), None, {"[1]": "mine"})
    assert [p.kind for p in plans] == ["4, 4", "mine", "4"]
    with pytest.raises(ValueError, match=r"'\[0\]' and '\[2\]' are both of kind 'k'"):
        plan_slices(_space(*shapes), (4, 4), None, {"[0]": "k", "[2]": "k"})
    with pytest.raises(ValueError, match=r"`kinds` names \['x'\], which the target"):
        plan_slices(_space(*shapes), (4, 4), None, {"x": "k"})
    with pytest.raises(ValueError, match=r"no leaf '\[2\]' of shape \(8,\)"):
        plan_slices(_space(*shapes), (4, 4), _space((8, 8), (8, 8), (9,)), {})


@functools.cache
def _generator():
    return SliceHyperNetwork(
        make_mlp, 2, slice_size=(2, 3), embedding_size=3, width=16, key=jr.key(0)
    )


def test_gradients_reach_every_embedding():
    generator = _generator()
    x = jnp.array([0.3, -0.5, 1.0])

    def loss(generator):
        contexts = np.random.default_rng(1).standard_normal((8, 2)).astype(np.float32)
        return eqx.filter_vmap(lambda c: generator(c)(x).sum())(contexts).sum()

    grads = eqx.filter_jit(eqx.filter_grad(loss))(generator)
    # Slices of 2 x 3 of weights 5 x 3, 5 x 5, 2 x 5 and biases 5, 5, 2.
    assert {k: v.shape for k, v in grads.embeddings.items()} == {
        ".layers[0].weight": (3, 3),
        ".layers[0].bias": (3, 3),
        ".layers[1].weight": (6, 3),
        ".layers[1].bias": (3, 3),
        ".layers[2].weight": (2, 3),
        ".layers[2].bias": (1, 3),
    }
    for path, gradient in grads.embeddings.items():
        assert (np.abs(gradient).max(1) > 1e-7).all(), path
    for leaf in jax.tree.leaves(grads.body.mlps):
        assert np.any(leaf)


def test_an_embedding_writes_its_slice_and_nothing_else():
    generator = _generator()
    context = jnp.array([0.5, 1.5])
    at = 3  # Third row of slices: row 2-3, columns 3-4 of the second weight.
    moved = eqx.tree_at(
        lambda g: g.body.embeddings[2],
        generator,
        replace_fn=lambda e: array(
            e + np.asarray(np.arange(6) == at, np.float32)[:, None]
        ),
    )
    before, after = call(generator, context), call(moved, context)
    weights = (np.asarray(network.layers[1].weight) for network in (before, after))
    changed = np.not_equal(*weights)
    expected = np.zeros((5, 5), bool)
    expected[2:4, 3:5] = True
    np.testing.assert_array_equal(changed, expected)
    weight = before.layers[1].weight
    after = eqx.tree_at(lambda n: n.layers[1].weight, after, weight)
    assert eqx.tree_equal(after, before)


def test_bias_and_weight_of_one_kind_share_their_mlp():
    generator = _generator()
    assert set(generator.body.mlps) == {"2, 3", "2"}
    assert [leaf.kind for leaf in generator.leaves] == ["2, 3", "2"] * 3
