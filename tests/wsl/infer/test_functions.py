"""Plain functions: control flow, transformations, what is reported, errors."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wsl.infer.helpers import assert_preserved, check, draw, numbers
from wsl import infer_weight_space, Stacked


_WEIGHTS = {"in": numbers(4, 3), "out": numbers(2, 4, seed=2)}
_SPEC = {"['in']": ("h", None), "['out']": (None, "h")}


@jax.custom_jvp
def _softsign(x):
    return x / (1.0 + jnp.abs(x))


@_softsign.defjvp
def _(primals, tangents):
    return _softsign(primals[0]), tangents[0]


@jax.custom_vjp
def _cube(x):
    return x**3


_cube.defvjp(lambda x: (_cube(x), x), lambda x, g: (3.0 * g * x * x,))


def _newton(x):
    """Reciprocals by iteration, until all are there."""

    def unfinished(state):
        y, steps = state
        return (jnp.abs(y * x - 1.0).max() > 1e-6) & (steps < 50)

    start = jnp.full_like(x, 0.1)
    return jax.lax.while_loop(
        unfinished, lambda s: (s[0] * (2.0 - s[0] * x), s[1] + 1), (start, 0)
    )[0]


_HIDDEN = {
    "tanh": jnp.tanh,
    "softmax": jax.nn.softmax,
    "logsumexp": lambda h: h - jax.nn.logsumexp(h),
    "standardise": lambda h: (h - h.mean()) / jnp.sqrt(h.var() + 1e-3),
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "clip": lambda h: jnp.clip(h, -0.5, 0.7),
    "where": lambda h: jnp.where(h > 0, h, 0.1 * h),
    "largest": lambda h: h * (h >= h.max()).astype(h.dtype),
    "power": lambda h: h**2 + h**3,
    "custom_jvp": _softsign,
    "custom_vjp": _cube,
    "checkpoint": jax.checkpoint(lambda h: jnp.tanh(h) * h),
    "jit": jax.jit(lambda h: jnp.tanh(h) * 2.0),
    "vmap": jax.vmap(lambda h: jnp.sin(h) + 1.0),
    "cond": lambda h: jax.lax.cond(h.sum() > 0, jnp.tanh, lambda h: -h, h),
    "switch": lambda h: jax.lax.switch(
        (h.sum() > 0).astype(jnp.int32), [jnp.tanh, lambda h: -h, lambda h: h], h
    ),
    "while": lambda h: _newton(jnp.exp(h)),
    "fori": lambda h: jax.lax.fori_loop(0, 3, lambda _, h: jnp.tanh(h), h),
    "map": lambda h: jax.lax.map(lambda c: jnp.tanh(c * h), jnp.arange(3.0)).sum(0),
    "grad": jax.grad(lambda h: jnp.sum(jnp.tanh(h) ** 2)),
    "barrier": lambda h: jax.lax.optimization_barrier(jnp.tanh(h)),
    "bfloat16": lambda h: h.astype(jnp.bfloat16).astype(jnp.float32),
    "sorted sum": lambda h: h * jnp.median(h),
    "outer": lambda h: jnp.tanh(h[:, None] * h[None, :]).sum(1),
    "tile": lambda h: jnp.tile(h, 3).reshape(3, 4).mean(0),
    "constant of ones": lambda h: h * np.full(4, 2.0, np.float32),
    "scatter": lambda h: jnp.zeros((3, 4)).at[1].set(h).at[2].add(2.0 * h).sum(0),
    "stack": lambda h: jnp.stack([h, jnp.tanh(h)])[1],
    "two halves": lambda h: jnp.split(jnp.concatenate([h, -h]), 2)[1],
    "einsum": lambda h: jnp.einsum("i,j,j->i", h, h, jnp.tanh(h)),
    "print": lambda h: (jax.debug.print("{}", h[0]), h)[1],
}


@pytest.mark.parametrize("name", _HIDDEN)
def test_hidden_units_stay_free(name):
    def fn(w, x):
        return w["out"] @ _HIDDEN[name](w["in"] @ x)

    check(fn, _WEIGHTS, [numbers(3)], _SPEC)


def test_scan_over_stacked_layers_has_a_group_for_each():
    def fn(w, x):
        h = jnp.tanh(w["in"] @ x)

        def layer(h, w):
            return h + w["down"] @ jnp.tanh(w["up"] @ h), None

        h, _ = jax.lax.scan(layer, h, w["layers"])
        return w["out"] @ h

    weights = {
        "in": numbers(4, 3),
        "layers": {"up": numbers(3, 5, 4), "down": numbers(3, 4, 5)},
        "out": numbers(2, 4),
    }
    spec = {
        "['in']": ("stream", None),
        "['layers']['up']": Stacked(*((f"h{i}", "stream") for i in range(3))),
        "['layers']['down']": Stacked(*(("stream", f"h{i}") for i in range(3))),
        "['out']": (None, "stream"),
    }
    check(fn, draw(weights), [numbers(3)], spec)


# They index by what the weights say: 5 choices of 4 units.
_INDEXED = {
    "each unit reads its own": lambda h, w: (
        h.sum() * jnp.take_along_axis(w["m"].T, _choices(w)[:, None], 1)[:, 0]
    ),
    "one row is written": lambda h, w: jax.lax.dynamic_update_slice(
        w["m"], h[None], (_choices(w).max(), jnp.int32(0))
    ).sum(0),
    "one row is read": lambda h, w: h * w["m"][_choices(w).max()],
}


def _choices(w):
    return jnp.argmax(w["t"], axis=1).astype(jnp.int32)


@pytest.mark.parametrize("name", _INDEXED)
def test_indices_that_depend_on_weights(name):
    def fn(w, x):
        h = jnp.tanh(w["in"] @ x)
        return w["out"] @ _INDEXED[name](h, w)

    weights = {**_WEIGHTS, "t": numbers(4, 5), "m": numbers(5, 4)}
    units = "h" if name == "each unit reads its own" else "t"
    inner = "sum" if name == "each unit reads its own" else "h"
    spec = {
        "['in']": (inner, None),
        "['t']": (units, None),
        "['m']": (None, "h"),
        "['out']": (None, "h"),
    }
    check(fn, weights, [numbers(3)], spec)


def test_what_is_written_last_depends_on_the_order():
    def fn(w, x):
        h = jnp.tanh(w["in"] @ x)
        return w["out"] @ jnp.zeros(5).at[_choices(w)].set(h)

    weights = {"in": numbers(4, 3), "out": numbers(2, 5), "t": numbers(4, 5)}
    space = infer_weight_space(fn, weights, numbers(3))
    assert space.groups == {}


def test_sets_of_sets():
    # An outer sum over inner sums: the inner order is free for every outer index.
    def fn(w, x):
        inner = jnp.tanh(w["a"] * x).sum(1)
        return jnp.sum(jnp.tanh(inner) * w["b"])

    weights = {"a": numbers(3, 4), "b": numbers(3)}
    spec = {"['a']": ("set", "member"), "['b']": ("set",)}
    check(fn, weights, [jnp.array(1.5)], spec, nested={"member": "set"})


def test_blocks_within_blocks():
    def fn(w, x):
        h = jnp.tanh(w["a"] @ x).reshape(2, 3, 2)
        inner = jax.nn.softmax(h, axis=2) * jax.nn.softmax(h.sum(2), axis=1)[..., None]
        return w["b"] @ (inner / (1.0 + jnp.abs(h).sum((1, 2), keepdims=True))).ravel()

    axis = ("a", "b", "c")
    check(
        fn,
        {"a": numbers(12, 3), "b": numbers(2, 12)},
        [numbers(3)],
        {"['a']": (axis, None), "['b']": (None, axis)},
        nested={"b": "a", "c": "b"},
        sizes={"a": 2, "b": 3},
    )


def test_results_that_nobody_reads_fix_nothing():
    def fn(w, x):
        h = jnp.tanh(w["in"] @ x)
        jax.jit(lambda h: (jnp.argmax(h), h))(h)
        h = jax.jit(lambda h: (jnp.cumsum(h), h))(h)[1]
        return w["out"] @ h

    check(fn, _WEIGHTS, [numbers(3)], _SPEC)


def test_shapes_are_enough():
    model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    shapes = eqx.filter_eval_shape(lambda: model)
    x = jax.ShapeDtypeStruct((3,), jnp.float32)
    by_shape = infer_weight_space(lambda m, x: m(x), shapes, x)
    assert by_shape == infer_weight_space(model, numbers(3))


@pytest.mark.parametrize(
    "wrap", [eqx.filter_jit, eqx.filter_vmap, eqx.filter_checkpoint]
)
def test_wrapped_modules_hold_their_weights(wrap):
    model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    x = numbers(5, 3) if wrap is eqx.filter_vmap else numbers(3)
    space = infer_weight_space(wrap(model), x)
    assert space.groups == {"g0": 4}
    plain = infer_weight_space(model, numbers(3))
    assert [x.shape for x in space.leaves] == [x.shape for x in plain.leaves]


def test_empty_arrays_are_followed():
    def fn(w, x):
        h = jnp.tanh(w["in"] @ x)
        h = jnp.concatenate([h, h[:0]])
        return jnp.concatenate([w["out"] @ h, jnp.split(h, [0])[0]])

    check(fn, _WEIGHTS, [numbers(3)], _SPEC)


def test_numpy_inputs_are_inputs_and_numbers_are_constants():
    def fn(w, x, scale, flag):
        h = jnp.tanh(w["in"] @ x) * scale
        return w["out"] @ h if flag else h

    space = infer_weight_space(fn, _WEIGHTS, np.ones(3, np.float32), 2.0, True)
    assert space.groups == {"g0": 4}
    assert "input 0" in dict(space.reasons).values()
    space = infer_weight_space(fn, _WEIGHTS, np.ones(3, np.float32), 2.0, False)
    # The hidden units come out; the matrix that nobody reads is not used.
    assert space.leaves[0].axes[0][0].name in space.fixed
    assert space.groups == {}
    assert dict(space.reasons)[str(space.leaves[1].axes[0][0].name)] == "not used"


def test_arrays_of_integers_among_the_weights_are_constants():
    def fn(w, x):
        return w["out"] @ jnp.tanh(w["in"] @ x)[w["order"]]

    weights = {**_WEIGHTS, "order": jnp.array([1, 0, 3, 2])}
    space = infer_weight_space(fn, weights, numbers(3))
    assert [x.path for x in space.leaves] == ["['in']", "['out']"]
    assert space.groups == {}
    assert "constant ['order']" in dict(space.reasons).values()


def test_reasons_are_named():
    def fn(w, x):
        a = jnp.cumsum(jnp.tanh(w["in"] @ x["obs"]))
        return {"y": w["out"] @ a, "z": x["skip"]}

    space = infer_weight_space(fn, _WEIGHTS, {"obs": numbers(3), "skip": numbers(2)})
    named = {
        leaf.path: [dict(space.reasons)[str(axis[0].name)] for axis in leaf.axes]
        for leaf in space.leaves
    }
    assert named == {
        "['in']": ["cumsum", "input 0['obs']"],
        "['out']": ["output 0", "cumsum"],
    }
    assert space.unknown_primitives == ()


def test_unknown_primitives_fix_what_they_touch_and_are_named():
    def fn(w, x):
        h = jnp.tanh(w["b"] @ jnp.tanh(w["a"] @ x))
        return w["c"] @ jax.lax.approx_max_k(h, 5)[0]

    weights = {"a": numbers(4, 3), "b": numbers(5, 4), "c": numbers(2, 5)}
    space = infer_weight_space(fn, weights, numbers(3))
    assert space.unknown_primitives == ("approx_top_k",)
    assert "not followed: approx_top_k" in str(space)
    assert space.groups == {"g0": 4}
    blamed = "unknown primitive 'approx_top_k'"
    fixed = {name for name, why in space.reasons if why == blamed}
    assert {space.leaves[1].axes[0][0].name, space.leaves[2].axes[1][0].name} == fixed
    assert_preserved(space, fn, draw(weights), [numbers(3)])


def test_unknown_primitives_of_inputs_cost_nothing():
    def fn(w, x):
        return w["out"] @ jnp.tanh(w["in"] @ jax.lax.approx_max_k(x, 3)[0])

    check(fn, _WEIGHTS, [numbers(3)], _SPEC)


def test_unused_weights_are_said_to_be():
    def fn(w, x):
        # Used inside of a function, but what comes of it is not.
        pair = jax.jit(lambda a, b: (a @ x, b @ x))(w["a"], w["b"])
        return w["out"] @ jnp.tanh(pair[0])

    weights = {"a": numbers(4, 3), "b": numbers(4, 3), "out": numbers(2, 4)}
    space = infer_weight_space(fn, weights, numbers(3))
    assert space.groups == {"g0": 4}
    assert [n for n, why in space.reasons if why == "not used"] == [
        axis[0].name for axis in space.leaves[1].axes
    ]
    assert "(4: not used)" in str(space)


def test_answers_are_the_same_every_time():
    def fn(w, x):
        return w["out"] @ jnp.tanh(w["in"] @ x)

    first, second = (infer_weight_space(fn, _WEIGHTS, numbers(3)) for _ in range(2))
    assert first == second
    assert first.reasons == second.reasons
    assert str(first) == str(second)


def test_what_has_no_weights_is_refused():
    with pytest.raises(ValueError, match="can be called; got dict"):
        infer_weight_space(_WEIGHTS, numbers(3))
    with pytest.raises(ValueError, match="There are no weights"):
        infer_weight_space(jnp.tanh)
    with pytest.raises(ValueError, match="There are no weights"):
        infer_weight_space(lambda n: n, jnp.arange(3))
    with pytest.raises(ValueError, match="There are no weights"):
        infer_weight_space(lambda w: w, jnp.ones(2, jnp.complex64))


def test_parts_that_are_not_told_apart_are_tied_and_named():
    weights = {"a": jnp.ones((4, 3)), "b": jnp.ones((4, 3)), "c": jnp.ones((2, 8))}

    def joined(weights, x):
        parts = [jnp.tanh(weights[name] @ x) for name in ("a", "b")]
        return weights["c"] @ jnp.concatenate(parts)

    space = infer_weight_space(joined, weights, jnp.ones(3))
    assert list(space.groups.values()) == [4, 4]
    assert space.ties == ()

    # A loop whose length is not known is not followed part by part.
    def looped(weights, x):
        def body(state):
            i, _ = state
            return i + 1, joined(weights, x)

        return jax.lax.while_loop(lambda s: s[0] < 3, body, (0, jnp.zeros(2)))[1]

    space = infer_weight_space(looped, weights, jnp.ones(3))
    assert list(space.groups.values()) == [4]
    assert space.ties == ("concatenation of lengths 4, 4",)
    assert "moved together by: concatenation of lengths 4, 4" in str(space)

    # Control: one layer's units twice are one set anyway.
    def twice(weights, x):
        hidden = jnp.tanh(weights["a"] @ x)
        return weights["c"] @ jnp.concatenate([hidden, -hidden])

    space = infer_weight_space(twice, weights, jnp.ones(3))
    assert space.ties == () and 4 in space.groups.values()


def test_weights_hidden_in_a_wrapper_are_refused():
    model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    partial = functools.partial(_first, {"a": jnp.ones((4, 3))})
    for hidden in (jax.vmap(model), partial):
        with pytest.raises(ValueError, match="hidden in a wrapped function"):
            infer_weight_space(hidden, jnp.ones((5, 3)))


def _first(weights, x):
    return weights["a"] @ x[0]


def test_numpy_arrays_are_weights():
    weights = {"a": np.ones((4, 3)), "b": np.ones((2, 4))}
    space = infer_weight_space(
        lambda w, x: w["b"] @ jnp.tanh(w["a"] @ x), weights, jnp.ones(3)
    )
    assert space.groups == {"g0": 4}
