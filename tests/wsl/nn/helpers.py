"""Spaces of every kind, and how far a layer is from commuting with their groups."""

import contextlib
import functools
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np

from tests.wsl.helpers import array, call, draw_element
from wsl import Stacked, Sum, WeightSpace


# Features are of order 1, and so are the layers' results: rounding moves them by 1e-6,
# a broken symmetry by far more than 1e-3.
SAME, MOVED = 2e-5, 1e-3


def _space(shapes: dict[str, tuple], spec: dict[str, Any], **kwargs) -> WeightSpace:
    weights = {k: jax.ShapeDtypeStruct(v, jnp.float32) for k, v in shapes.items()}
    return WeightSpace.from_spec(
        weights, {f"['{k}']": v for k, v in spec.items()}, **kwargs
    )


# An MLP with named inputs and outputs; its last bias has no axis that moves.
MLP = _space(
    {"b0": (4,), "b1": (3,), "b2": (2,), "w0": (4, 3), "w1": (3, 4), "w2": (2, 3)},
    {
        "b0": ("h0",),
        "b1": ("h1",),
        "b2": ("out",),
        "w0": ("h0", "in"),
        "w1": ("h1", "h0"),
        "w2": ("out", "h1"),
    },
    fixed=["in", "out"],
)
# Recurrent weights: one group on both axes of a leaf. One output, and a scalar.
RECURRENT = _space(
    {"b": (4,), "o": (1, 4), "s": (), "u": (4, 2), "w": (4, 4)},
    {
        "b": ("h",),
        "o": (None, "h"),
        "s": (),
        "u": ("h", None),
        "w": ("h", "h"),
    },
)
# The gates of a GRU, a flattened feature map, and a name of only one index.
FACTORED = _space(
    {"bias": (9,), "gates": (9, 3), "head": (2, 12), "one": (3, 1)},
    {
        "bias": ((3, "h"),),
        "gates": ((3, "h"), "h"),
        "head": (None, ("h", 4)),
        "one": ("h", "single"),
    },
)
# Heads, units in each head, and two kinds of them on one leaf. The model axis moves.
NESTED = _space(
    {
        "both": (12,),
        "o": (3, 6),
        "pair": (6, 6),
        "q": (6, 3),
        "scale": (2,),
        "v": (2, 2),
    },
    {
        "both": (("heads", "units", "values"),),
        "o": ("model", ("heads", "units")),
        "pair": (("heads", "units"), ("heads", "units")),
        "q": (("heads", "units"), "model"),
        "scale": ("heads",),
        "v": ("heads", "values"),
    },
    nested={"units": "heads", "values": "heads"},
)
# Blocks in blocks, stored out of order.
DEEP = _space(
    {"a": (2, 3, 2), "b": (12,), "c": (3, 2)},
    {"a": ("y", "z", "x"), "b": (("x", "y", "z"),), "c": ("free", "x")},
    nested={"z": "y", "y": "x"},
    sizes={"x": 2, "y": 2, "z": 3},
)
# The least that repeats an axis, for what compiles long.
SMALL = _space({"b": (3,), "w": (3, 3)}, {"b": ("h",), "w": ("h", "h")})
# The least of the others, likewise: one hidden layer between named ends, and blocks.
SHALLOW = _space(
    {"b": (3,), "v": (2, 3), "w": (3, 2)},
    {"b": ("h",), "v": ("out", "h"), "w": ("h", "in")},
    fixed=["in", "out"],
)
BLOCKS = _space(
    {"o": (3, 4), "scale": (2,)},
    {"o": ("model", ("heads", "units")), "scale": ("heads",)},
    nested={"units": "heads"},
)
# Units beside inputs, two layers as one axis, heads with several parts, and a stack.
SUMS = _space(
    {"b": (2, 3), "fused": (10, 3), "joined": (5, 6)},
    {
        "b": Stacked(("h",), ("k",)),
        "fused": (("heads", Sum("units", "units", 1)), "h"),
        "joined": (Sum("h", 2), Sum("h", "k")),
    },
    nested={"units": "heads"},
    sizes={"heads": 2},
)
FROZEN = _space({"a": (2, 3), "s": ()}, {"a": (None, None), "s": ()})

SPACES = {
    "mlp": MLP,
    "released": MLP.unfix("in", "out"),
    "recurrent": RECURRENT,
    "factored": FACTORED,
    "nested": NESTED,
    "deep": DEEP,
    "sums": SUMS,
    "frozen": FROZEN,
}


def draw_features(space: WeightSpace, channels: Any, seed: int, dtype=jnp.float32):
    """Normal features; `channels` is a number or one for each path."""
    random = np.random.default_rng(seed)
    counts = (
        {leaf.path: channels for leaf in space.leaves}
        if isinstance(channels, int)
        else channels
    )
    leaves = [
        array(random.standard_normal((*leaf.shape, counts[leaf.path])), dtype)
        for leaf in space.leaves
    ]
    return jax.tree.unflatten(space.treedef, leaves)


def uneven(space: WeightSpace) -> dict[str, int]:
    """Another number of channels on every other leaf."""
    return {leaf.path: 4 if i % 2 else 2 for i, leaf in enumerate(space.leaves)}


def distance(a: Any, b: Any) -> float:
    """Greatest difference of two pytrees of arrays."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(
        [
            float(np.abs(np.asarray(x, float) - np.asarray(y, float)).max(initial=0))
            for x, y in pairs
        ],
        default=0.0,
    )


def _is_features(space: WeightSpace, result: Any) -> bool:
    return jax.tree.structure(result) == space.treedef and not eqx.is_array(result)


@functools.cache
def _action(space: WeightSpace) -> Callable:
    return jax.jit(space.permute_features)


def broken(
    layer: Callable, space: WeightSpace, features: Any, seed: int, *, group=None
) -> float:
    """How far a layer is from commuting with a drawn element of the space's group.

    Or, if it returns a vector, from not seeing it. `group` is the space whose group
    acts, where it is not the layer's.
    """
    permute, element = _action(group or space), draw_element(group or space, seed)
    result = call(layer, features)
    moved = call(layer, permute(features, element))
    if _is_features(space, result):
        result = permute(result, element)
    return distance(moved, result)


def broken_by_most(
    layer, space, features, *, group=None, seeds: Iterable[int] = range(8)
) -> float:
    """The greatest of `broken` over several elements: for negative controls."""
    return max(broken(layer, space, features, s, group=group) for s in seeds)


def assert_commutes(layer, space, features, seeds: Iterable[int] = range(3)) -> None:
    """Equivariant, or invariant if the layer returns a vector."""
    assert broken_by_most(layer, space, features, seeds=seeds) < SAME


def assert_healthy(layer, space, channels) -> None:
    """Works under jit and vmap; keeps dtypes; finite gradients, at zero too."""
    features = draw_features(space, channels, 0)
    result = call(layer, features)
    batch = jax.tree.map(lambda x: np.stack([-2 * np.asarray(x), x]), features)
    mapped = eqx.filter_jit(lambda layer, batch: jax.vmap(layer)(batch))(layer, batch)
    assert distance(jax.tree.map(lambda x: np.asarray(x)[1], mapped), result) < SAME
    for dtype in (jnp.bfloat16, jnp.float16):
        halves = draw_features(space, channels, 0, dtype)
        found = jax.tree.leaves(eqx.filter_eval_shape(layer, halves))
        assert {x.dtype for x in found} == {jnp.dtype(dtype)}

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(both):
        layer, features = both
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(layer(features)))

    for scale in (0.0, 1.0):
        at = jax.tree.map(lambda x, scale=scale: array(scale * np.asarray(x)), features)
        for x in jax.tree.leaves(gradient((layer, at))):
            assert np.isfinite(x).all()


@contextlib.contextmanager
def without_type_checks():
    """As users run the library: types are not checked, so that our own errors show."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
