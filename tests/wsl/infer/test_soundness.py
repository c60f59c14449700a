"""Functions that break a symmetry in a place that is easy to overlook."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wsl.infer.helpers import assert_preserved, check, draw, numbers
from wsl import infer_weight_space, Sum, WeightSpace


_LENGTH = 8
_RAMP = np.arange(1.0, 1.0 + _LENGTH, dtype=np.float32)


def _attention_pool(h):
    """Two heads of four units; the second unit of every head scores."""
    heads = h.reshape(2, 4)
    return (jax.nn.softmax(heads[:, 1])[:, None] * heads).ravel()


# For each what it does to 8 hidden units, and the sizes of the groups that are left: by
# hand. The units' index set may factor; what is not listed is fixed.
_BROKEN = {
    "constant ramp": (lambda h: h * _RAMP, []),
    "constant that differs in one place": (
        lambda h: h + np.eye(_LENGTH, dtype=np.float32)[3],
        [],
    ),
    "index": (lambda h: h + jnp.arange(_LENGTH).astype(h.dtype), []),
    "index of the largest": (lambda h: h * jnp.argmax(h).astype(h.dtype), []),
    "order of all": (lambda h: h * jnp.argsort(h).astype(h.dtype), []),
    "largest two": (lambda h: h * jax.lax.top_k(h, 2)[1].sum().astype(h.dtype), []),
    "cumulative sum": (jnp.cumsum, []),
    "differences": (jnp.diff, []),
    # Stretches of units are told apart, not units that are scattered.
    "one unit": (lambda h: h * h[3], [3, 4]),
    "all but one": (lambda h: h[1:], [7]),
    "every third": (lambda h: h[::3], []),
    "reversed": (lambda h: h + h[::-1], []),
    "rolled": (lambda h: h + jnp.roll(h, 1), []),
    "padded": (lambda h: jnp.pad(h, 1), []),
    "random numbers": (
        lambda h: h * jax.random.normal(jax.random.key(0), (_LENGTH,)),
        [],
    ),
    "dropout": (
        lambda h: eqx.nn.Dropout(0.5)(h, key=jax.random.key(3)),
        [],
    ),
    "dynamic index": (
        lambda h: h * jax.lax.dynamic_index_in_dim(h, (h.sum() > 0).astype(jnp.int32)),
        [],
    ),
    "written at one place": (lambda h: h.at[2].set(0.0), []),
    "dynamic update": (
        lambda h: jax.lax.dynamic_update_slice(h, h[:2] * 2.0, (1,)),
        [],
    ),
    "convolved": (lambda h: jnp.convolve(h, np.ones(3, np.float32), "same"), []),
    "solved": (
        lambda h: jnp.linalg.solve(jnp.outer(h, h) + jnp.diag(jnp.asarray(_RAMP)), h),
        [],
    ),
    "misaligned reshape": (
        lambda h: (jnp.tile(h, 3).reshape(4, 6) * numbers(4, 1)).sum(0),
        [],
    ),
    "halves added": (lambda h: h[:4] + h[4:], [4]),
    "halves swapped": (lambda h: jnp.concatenate([h[4:], h[:4]]), [4, 4]),
    "halves apart": (lambda h: jnp.concatenate([jnp.tanh(h[:4]), h[4:]]), [4, 4]),
    "halves each other's": (
        lambda h: jnp.concatenate([h[4:], h[:4]]) * jnp.concatenate([h[:4], h[4:]]),
        [4],
    ),
    "unequal parts": (lambda h: jnp.concatenate([h[:6] * 2.0, h[6:]]), [2, 6]),
    "overlapping parts": (lambda h: jnp.concatenate([h[:6], h[4:]]), [2, 2, 4]),
    "gates": (lambda h: jax.nn.glu(h), [4]),
    "pairs rotated": (
        lambda h: jnp.stack([-h.reshape(4, 2)[:, 1], h.reshape(4, 2)[:, 0]], 1).ravel(),
        # The first of all pairs, and the second, as each has its own way out.
        [4, 4],
    ),
    "blocks with a ramp": (
        lambda h: (h.reshape(2, 4) * _RAMP[None, :4]).ravel(),
        # The two units with one factor, four times.
        [2, 2, 2, 2],
    ),
    "scored by one unit": (_attention_pool, [2]),
    "transposed units": (lambda h: h.reshape(2, 4).T.ravel(), [2, 4]),
    "square and its transpose": (
        lambda h: (h[:4, None] * h[None, 4:] + h[None, :4] * h[4:, None]).sum(0),
        [4],
    ),
    "order within a loop": (
        lambda h: jax.lax.fori_loop(0, 3, lambda i, h: jnp.roll(jnp.tanh(h), 1), h),
        [],
    ),
    "order within a branch": (
        lambda h: jax.lax.cond(h.sum() > -99.0, jnp.cumsum, jnp.tanh, h),
        [],
    ),
    "constant start of a loop": (
        lambda h: jax.lax.scan(lambda c, _: (jnp.tanh(c) + h, None), _RAMP, length=2)[
            0
        ],
        [],
    ),
    "units as steps": (
        lambda h: jax.lax.scan(lambda c, x: (jnp.tanh(c + x), c), jnp.array(0.0), h)[1],
        [],
    ),
}


def _two_layers(hidden):
    return lambda w, x: w["out"] @ hidden(jnp.tanh(w["in"] @ x))


@pytest.mark.parametrize("name", _BROKEN)
def test_broken_symmetries_are_not_reported(name):
    hidden, groups = _BROKEN[name]
    fn = _two_layers(hidden)
    size = hidden(jnp.ones(_LENGTH)).size
    weights = {"in": numbers(_LENGTH, 3), "out": numbers(2, size, seed=2)}
    space = infer_weight_space(fn, weights, numbers(3))
    assert sorted(space.groups.values()) == groups
    assert_preserved(space, fn, draw(weights), [numbers(3)], samples=4)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, (hidden, groups) in _BROKEN.items()
        if not groups and hidden(jnp.ones(_LENGTH)).shape == (_LENGTH,)
    ],
)
def test_broken_symmetries_would_be_noticed(name):
    hidden, _ = _BROKEN[name]
    weights = draw({"in": numbers(_LENGTH, 3), "out": numbers(2, _LENGTH)})
    wrong = WeightSpace.from_spec(
        weights, {"['in']": ("h", None), "['out']": (None, "h")}
    )
    with pytest.raises(AssertionError):
        assert_preserved(wrong, _two_layers(hidden), weights, [numbers(3)], samples=4)


def _pooled(fn):
    return lambda w, x: w["out"] @ fn(w, x)


# Functions of matrices, their shapes, and the group: by hand.
_MATRICES = {
    # Rows and columns are the units, once.
    "matrix and its transpose": (
        _pooled(lambda w, x: jnp.tanh(w["a"] + w["a"].T) @ (w["in"] @ x)),
        {"a": (4, 4), "in": (4, 3), "out": (2, 4)},
        {"['a']": ("h", "h"), "['in']": ("h", None), "['out']": (None, "h")},
        {},
    ),
    "diagonal": (
        _pooled(lambda w, x: jnp.diag(w["a"]) * (w["in"] @ x)),
        {"a": (4, 4), "in": (4, 3), "out": (2, 4)},
        {"['a']": (None, None), "['in']": (None, None), "['out']": (None, None)},
        {},
    ),
    "power of a matrix": (
        _pooled(lambda w, x: w["a"] @ (w["a"] @ (w["in"] @ x))),
        {"a": (4, 4), "in": (4, 3), "out": (2, 4)},
        {"['a']": ("h", "h"), "['in']": ("h", None), "['out']": (None, "h")},
        {},
    ),
    "outer product of hidden units": (
        lambda w, x: jnp.einsum(
            "oij,i,j->o", w["out"], jnp.tanh(w["a"] @ x), jnp.tanh(w["b"] @ x)
        ),
        {"a": (4, 3), "b": (5, 3), "out": (2, 4, 5)},
        {"['a']": ("a", None), "['b']": ("b", None), "['out']": (None, "a", "b")},
        {},
    ),
    "outer product with itself": (
        lambda w, x: jnp.einsum(
            "oij,i,j->o", w["out"], jnp.tanh(w["a"] @ x), jnp.tanh(w["a"] @ x)
        ),
        {"a": (4, 3), "out": (2, 4, 4)},
        {"['a']": ("a", None), "['out']": (None, "a", "a")},
        {},
    ),
    # The sum over heads leaves each unit an order of its own among them, not each head
    # one of its units.
    "heads summed before their units": (
        lambda w, x: w["out"] @ jnp.tanh((w["a"] @ x).reshape(2, 3).sum(0)),
        {"a": (6, 3), "out": (2, 3)},
        {"['a']": (("head", "unit"), None), "['out']": (None, "unit")},
        {"head": "unit"},
    ),
    "heads that meet": (
        lambda w, x: jnp.einsum(
            "ohg,hu,gu->o", w["out"], *[jnp.tanh((w["a"] @ x).reshape(2, 3))] * 2
        ),
        {"a": (6, 3), "out": (2, 2, 2)},
        {"['a']": (("head", "unit"), None), "['out']": (None, "head", "head")},
        {},
    ),
    "concatenated with the input": (
        lambda w, x: w["out"] @ jnp.concatenate([jnp.tanh(w["a"] @ x), x]),
        {"a": (4, 3), "out": (2, 7)},
        {"['a']": ("h", None), "['out']": (None, Sum("h", 3))},
        {},
    ),
    "concatenated layers of one width": (
        lambda w, x: (
            w["out"] @ jnp.concatenate([jnp.tanh(w["a"] @ x), jnp.tanh(w["b"] @ x)])
        ),
        {"a": (4, 3), "b": (4, 3), "out": (2, 8)},
        {"['a']": ("h", None), "['b']": ("k", None), "['out']": (None, Sum("h", "k"))},
        {},
    ),
    # Blocks of two units and blocks of three have no common factors.
    "factors that do not fit": (
        _pooled(
            lambda w, x: (
                jax.nn.softmax((w["a"] @ x).reshape(2, 3), axis=1).ravel()
                * jax.nn.softmax((w["b"] @ x).reshape(3, 2), axis=1).ravel()
            )
        ),
        {"a": (6, 3), "b": (6, 3), "out": (2, 6)},
        {"['a']": (None, None), "['b']": (None, None), "['out']": (None, None)},
        {},
    ),
    "hidden units that come out": (
        lambda w, x: (w["out"] @ jnp.tanh(w["a"] @ x), (w["a"] @ x)[:2]),
        {"a": (5, 3), "out": (2, 5)},
        {"['a']": (Sum(2, "h"), None), "['out']": (None, Sum(2, "h"))},
        {},
    ),
}


def test_factors_of_an_input_are_fixed():
    def fn(w, x):
        return jnp.einsum("oij,ij->o", w["a"], x.reshape(2, 3))

    check(fn, {"a": numbers(2, 2, 3)}, [numbers(6)], {"['a']": (None, None, None)})


@pytest.mark.parametrize("name", _MATRICES)
def test_matrices(name):
    fn, shapes, spec, nested = _MATRICES[name]
    weights = draw({key: numbers(*shape) for key, shape in shapes.items()})
    sizes = {"head": 2} if "head" in name else None
    check(fn, weights, [numbers(3)], spec, nested=nested, sizes=sizes)


def test_nesting_that_is_not_there_would_be_noticed():
    fn, shapes, spec, _ = _MATRICES["heads that meet"]
    weights = draw({key: numbers(*shape) for key, shape in shapes.items()})
    wrong = WeightSpace.from_spec(
        weights, spec, nested={"unit": "head"}, sizes={"head": 2}
    )
    with pytest.raises(AssertionError):
        assert_preserved(wrong, fn, weights, [numbers(3)], samples=4)
