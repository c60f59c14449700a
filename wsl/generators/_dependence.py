"""Which outputs of an initialiser depend on its key."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
from jax.extend.core import Literal
from jaxtyping import PyTree

from wsl.generators._generator import MakeTarget


def depends_on_key(make_target: MakeTarget) -> tuple[PyTree, PyTree]:
    """For each array that an initialiser makes, whether the key has a say in it.

    Args:
        make_target: The initialiser.

    Returns:
        The initialiser's output, with a `jax.ShapeDtypeStruct` for each array and None
        for what else there is; and the same with True or False for each array.
    """
    closed, outputs, _ = eqx.filter_make_jaxpr(make_target)(jax.random.key(0))
    flags = _reach(closed.jaxpr, [True])
    return outputs, jax.tree.unflatten(jax.tree.structure(outputs), flags)


def _reach(jaxpr: Any, inputs: Sequence[bool]) -> list[bool]:
    """For each output of a jaxpr, whether some input that is marked reaches it."""
    marked = {v for v, mark in zip(jaxpr.invars, inputs, strict=True) if mark}

    def is_marked(variable: Any) -> bool:
        return not isinstance(variable, Literal) and variable in marked

    for eqn in jaxpr.eqns:
        into = [is_marked(v) for v in eqn.invars]
        if eqn.primitive.name in ("jit", "pjit"):
            out = _reach(eqn.params["jaxpr"].jaxpr, into)
        else:
            out = [any(into)] * len(eqn.outvars)
        marked |= {v for v, mark in zip(eqn.outvars, out, strict=True) if mark}
    return [is_marked(v) for v in jaxpr.outvars]
