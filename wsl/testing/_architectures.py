import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, get_args, Literal, NamedTuple

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array

from wsl._space import AxisSpec, WeightSpace
from wsl.testing._composite import composite, Draw
from wsl.testing._models import (
    Attending,
    Convolutional,
    Perceptron,
    Recurrent,
    Residual,
)


Kind = Literal["mlp", "perceptron", "residual", "conv", "gru", "lstm", "attention"]
_KINDS: tuple[Kind, ...] = get_args(Kind)


class Architecture(NamedTuple):
    """A network, something to call it with, and its symmetries.

    Attributes:
        kind: What sort of network it is.
        model: The network, with random weights.
        inputs: What it can be called with: `model(*inputs)`.
        space: Its weight space, written by hand: all permutations of hidden units that
            leave it alone.
    """

    kind: str
    model: Any
    inputs: tuple[Array, ...]
    space: WeightSpace


def architectures(kinds: Sequence[Kind] = _KINDS) -> st.SearchStrategy[Architecture]:
    """Random small networks, the symmetries of which are known.

    Sizes come from a few values, so that examples share compilations. Weights are
    normal, scaled by the number of inputs of each unit; so are inputs. In "mlp"
    (`equinox.nn.MLP`) all hidden layers have one width, in "perceptron" each has its
    own.

    Args:
        kinds: What sorts of networks to draw from: "mlp", "perceptron", "residual"
            (with layer or RMS norms), "conv", "gru", "lstm" and "attention" (a
            transformer block).

    Returns:
        A strategy for [`Architecture`][wsl.testing.Architecture].
    """
    return _architectures(list(kinds))


@composite
def _architectures(draw: Draw, kinds: list[Kind]) -> Architecture:
    kind = draw(st.sampled_from(kinds))
    drawn = _DRAW[kind](draw)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def numbers(leaf: jax.ShapeDtypeStruct) -> Array:
        fan_in = leaf.size // leaf.shape[0] if len(leaf.shape) > 1 else 4
        scaled = random.standard_normal(leaf.shape) / np.sqrt(fan_in)
        return jax.device_put(scaled.astype(leaf.dtype))

    # Only shapes are made, as whatever compiles may draw random numbers of its own.
    model = eqx.filter_eval_shape(drawn.make, key=jr.key(0))
    model = jax.tree.map(
        lambda leaf: numbers(leaf) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf,
        model,
    )
    example = jax.device_put(random.standard_normal(drawn.shape).astype(np.float32))
    space = WeightSpace.from_spec(
        model, drawn.spec, nested=drawn.nested, sizes=drawn.sizes
    )
    return Architecture(kind, model, (example,), space)


_Spec = dict[str, tuple[AxisSpec, ...]]


class _Drawn(NamedTuple):
    make: Callable[..., Any]
    shape: tuple[int, ...]
    spec: _Spec
    nested: Mapping[str, str] = MappingProxyType({})
    sizes: Mapping[str, int] = MappingProxyType({})


def _width(draw: Draw) -> int:
    return draw(st.sampled_from([2, 3, 5]))


def _linear(path: str, rows: AxisSpec, columns: AxisSpec) -> _Spec:
    return {f"{path}.weight": (rows, columns), f"{path}.bias": (rows,)}


def _chain(path: str, names: Sequence[AxisSpec], use_bias: bool) -> _Spec:
    spec: _Spec = {}
    for i in range(len(names) - 1):
        spec |= _linear(f"{path}[{i}]", names[i + 1], names[i])
        if not use_bias:
            del spec[f"{path}[{i}].bias"]
    return spec


def _mlp(draw: Draw) -> _Drawn:
    use_bias, depth = draw(st.booleans()), draw(st.integers(0, 3))
    model = functools.partial(
        eqx.nn.MLP,
        *(3, 2, _width(draw), depth, jax.nn.silu),
        use_bias=use_bias,
        use_final_bias=use_bias,
    )
    names = [None, *(f"hidden{i}" for i in range(depth)), None]
    return _Drawn(model, (3,), _chain(".layers", names, use_bias))


def _perceptron(draw: Draw) -> _Drawn:
    use_bias, depth = draw(st.booleans()), draw(st.integers(1, 3))
    sizes = (3, *(_width(draw) for _ in range(depth)), 2)
    names = [None, *(f"hidden{i}" for i in range(depth)), None]
    model = functools.partial(Perceptron, sizes, use_bias)
    return _Drawn(model, (3,), _chain(".linears", names, use_bias))


def _residual(draw: Draw) -> _Drawn:
    depth = draw(st.integers(1, 2))
    norm = draw(st.sampled_from([eqx.nn.LayerNorm, eqx.nn.RMSNorm]))
    model = functools.partial(Residual, draw(st.sampled_from([3, 5])), 4, depth, norm)
    spec = _linear(".embedding", "stream", None) | _linear(".readout", None, "stream")
    for i in range(depth):
        spec[f".norms[{i}].weight"] = spec[f".norms[{i}].bias"] = ("stream",)
        spec |= _linear(f".rises[{i}]", f"hidden{i}", "stream")
        spec |= _linear(f".falls[{i}]", "stream", f"hidden{i}")
    return _Drawn(model, (3,), spec)


def _conv(draw: Draw) -> _Drawn:
    model = functools.partial(Convolutional, (_width(draw), 3))
    spec: _Spec = {
        ".first.weight": ("channels0", None, None, None),
        ".first.bias": ("channels0", None, None),
        ".second.weight": ("channels1", "channels0", None, None),
        ".second.bias": ("channels1", None, None),
        ".readout.weight": (None, ("channels1", 4)),
        ".readout.bias": (None,),
    }
    return _Drawn(model, (2, 4, 4), spec)


def _gru(draw: Draw) -> _Drawn:
    model = functools.partial(Recurrent, eqx.nn.GRUCell, _width(draw))
    return _Drawn(model, (3, 2), _recurrent(3) | {".cell.bias_n": ("units",)})


def _lstm(draw: Draw) -> _Drawn:
    model = functools.partial(Recurrent, eqx.nn.LSTMCell, _width(draw))
    return _Drawn(model, (3, 2), _recurrent(4))


def _recurrent(gates: int) -> _Spec:
    return {
        ".cell.weight_ih": ((gates, "units"), None),
        ".cell.weight_hh": ((gates, "units"), "units"),
        ".cell.bias": ((gates, "units"),),
    } | _linear(".readout", None, "units")


def _attention(draw: Draw) -> _Drawn:
    heads = draw(st.integers(1, 3))
    model = functools.partial(Attending, 4, heads, draw(st.integers(2, 3)))
    spec = {
        ".norm.weight": ("stream",),
        ".norm.bias": ("stream",),
        ".attention.query_proj.weight": (("heads", "keys"), "stream"),
        ".attention.key_proj.weight": (("heads", "keys"), "stream"),
        ".attention.value_proj.weight": (("heads", "values"), "stream"),
        ".attention.output_proj.weight": ("stream", ("heads", "values")),
    }
    spec |= _linear(".embedding", "stream", None) | _linear(".readout", None, "stream")
    spec |= _chain(".mlp.linears", ["stream", "hidden", "stream"], True)
    nested = {"keys": "heads", "values": "heads"}
    return _Drawn(model, (3, 2), spec, nested, {"heads": heads})


_DRAW = {
    "mlp": _mlp,
    "perceptron": _perceptron,
    "residual": _residual,
    "conv": _conv,
    "gru": _gru,
    "lstm": _lstm,
    "attention": _attention,
}
