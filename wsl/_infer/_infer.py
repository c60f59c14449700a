"""The inference as a whole."""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from wsl._infer._analyse import Problem
from wsl._infer._naming import describe, Names
from wsl._infer._store import Reason
from wsl._infer._sums import find_sums, Found
from wsl._space import is_weight, read, WeightSpace


def infer_weight_space(fn_or_module: Any, *example_inputs: PyTree) -> WeightSpace:
    """Derives the permutations of a model's weights that leave its function unchanged.

    The function is traced, not run, and every axis of every weight is followed through
    it. The group found never changes the function: inputs and outputs are fixed, and so
    is all that cannot be followed, which `reasons` and `unknown_primitives` of the
    space name. Axes that are put together, cut or stacked are sums of index sets, and
    what may move apart in them is told apart; where it is not, `ties` says why.

    Args:
        fn_or_module: A callable with floating-point arrays in it (an Equinox module),
            which are its weights; or a function whose first input is its weights, any
            pytree of arrays: a dictionary, a module, a pair of a module and its
            `equinox.nn.State`. A model that was closed over, as by `jax.vmap(model)`,
            cannot be seen; `equinox.filter_vmap(model)` holds it.
        *example_inputs: What to call it with: arrays, of which only shapes and dtypes
            matter, or `jax.ShapeDtypeStruct`s in their place; anything else in them is
            part of the function. For a function, the weights come first.

    Returns:
        The space of the floating-point arrays among the weights; other arrays there
        are constants of the model, as inputs are. Groups are called `g0, g1, ...` and
        fixed names `f0, f1, ...`, in order of appearance.

    Raises:
        ValueError: If what is given cannot be called on the inputs, has no weights, or
            returns no arrays.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp, wsl
        >>> model = eqx.nn.MLP(3, 2, 8, 1, key=jax.random.key(0))
        >>> space = wsl.infer_weight_space(model, jnp.zeros(3))
        >>> print(space)
        leaf               shape   axes
        .layers[0].weight  (8, 3)  g0, f0
        .layers[0].bias    (8,)    g0
        .layers[1].weight  (2, 8)  f1, g0
        .layers[1].bias    (2,)    f1
        groups: g0 (8)
        fixed: f0 (3: input 0), f1 (2: output)
    """
    problem, free, _ = pose(fn_or_module, example_inputs)
    return name_all(free, find_sums(problem))


def pose(
    fn_or_module: Any, example_inputs: tuple[Any, ...]
) -> tuple[Problem, PyTree, PyTree]:
    """What there is to follow, the weights, and what else goes in."""
    fn, weights, inputs = _arguments(fn_or_module, example_inputs)
    free = eqx.filter(weights, is_weight)
    given = eqx.filter(
        (eqx.filter(weights, is_weight, inverse=True), inputs), _is_array
    )
    jaxpr = _trace(fn, weights, inputs, free, given)
    shapes = tuple(tuple(leaf.shape) for leaf in jax.tree.leaves(free))
    constants = tuple(
        (tuple(jnp.shape(leaf)), _given_reason(path))
        for path, leaf in jtu.tree_leaves_with_path(given)
    )
    return Problem(jaxpr, shapes, constants), free, given


def _arguments(
    fn_or_module: Any, example_inputs: tuple[Any, ...]
) -> tuple[Callable[..., Any], PyTree, tuple[Any, ...]]:
    """The function of weights and inputs, the weights, the inputs."""
    if not callable(fn_or_module):
        raise ValueError(
            f"Expected a function or a module that can be called; got "
            f"{type(fn_or_module).__name__}. If it is only weights, give the function "
            "that uses them, and them as its first input."
        )
    if isinstance(fn_or_module, type):
        raise ValueError(
            f"{fn_or_module.__name__} is a class; give a model that was made of it, or "
            "a function and the weights as its first input."
        )
    if _has_weights(fn_or_module):
        return (lambda module, *inputs: module(*inputs)), fn_or_module, example_inputs
    hidden = [inspect.unwrap(fn_or_module)]
    if isinstance(fn_or_module, functools.partial):
        hidden += [fn_or_module.func, fn_or_module.args, fn_or_module.keywords]
    if _has_weights(hidden):
        raise ValueError(
            "The weights are hidden in a wrapped function, where they are constants. "
            "Use `eqx.filter_vmap(model)` and its like in place of `jax.vmap(model)`, "
            "`eqx.Partial` in place of `functools.partial`, or make the weights the "
            "first input of a function."
        )
    held = {
        str(leaf.dtype)
        for leaf in jax.tree.leaves(fn_or_module)
        if _is_array(leaf) and not isinstance(fn_or_module, eqx.Partial)
    }
    if held and isinstance(fn_or_module, eqx.Module):
        raise ValueError(
            f"The arrays of this {type(fn_or_module).__name__} have dtype "
            f"{', '.join(sorted(held))}; weights are real floating-point numbers. Cast "
            "them, or wrap the module in a function whose first input is the weights."
        )
    if not example_inputs or not _has_weights(example_inputs[0]):
        raise ValueError(
            "There are no weights: neither does the callable hold floating-point "
            "arrays, nor does the first example input. Arrays that a function has "
            "closed over are constants; give it its weights as its first input."
        )
    return fn_or_module, example_inputs[0], example_inputs[1:]


def _has_weights(tree: PyTree) -> bool:
    return any(is_weight(leaf) for leaf in jax.tree.leaves(tree))


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct | np.ndarray | np.generic)


def _trace(
    fn: Callable[..., Any], weights: PyTree, inputs: PyTree, free: PyTree, given: PyTree
) -> Any:
    """The jaxpr, of the leaves of `free` and `given` to all arrays that come out."""
    static = eqx.filter((weights, inputs), _is_array, inverse=True)
    arrays, treedef = jax.tree.flatten((free, given))

    def flat(*arrays: Any) -> list[Any]:
        free, (rest, dynamic) = jax.tree.unflatten(treedef, arrays)
        weights = eqx.combine(free, rest, static[0])
        outputs = fn(weights, *eqx.combine(dynamic, static[1]))
        return jax.tree.leaves(eqx.filter(outputs, eqx.is_array))

    try:
        jaxpr = jax.make_jaxpr(flat)(*arrays)
    except (TypeError, ValueError) as error:
        raise ValueError(_failure(error, free, given)) from error
    if not jaxpr.jaxpr.outvars:
        raise ValueError(
            "The function returns no arrays, so that every permutation would leave it "
            "unchanged. Return what is to stay the same."
        )
    return jaxpr


# A shape in an error of JAX: `(8, 3)`, or `[8,3]` after a dtype.
_SHAPE = re.compile(r"\([\d, ]*\)|(?<=\d)\[[\d,]*\]")


def _failure(error: Exception, free: PyTree, given: PyTree) -> str:
    """What went wrong in tracing, and which leaves and inputs have the shapes named."""
    weights = [
        (f"weights{jtu.keystr(path)}", jnp.shape(leaf))
        for path, leaf in jtu.tree_leaves_with_path(free)
    ]
    inputs = [
        (_given_reason(path).text, jnp.shape(leaf))
        for path, leaf in jtu.tree_leaves_with_path(given)
    ]
    shapes = [
        tuple(map(int, re.findall(r"\d+", text))) for text in _SHAPE.findall(str(error))
    ]
    found = [pair for pair in inputs if pair[1] in shapes] or inputs
    # An error about a product names the lengths of the axes that do not fit, no more.
    lengths = {n for shape in shapes for n in shape}
    found += [pair for pair in weights if pair[1] in shapes] or [
        pair for pair in weights if len(pair[1]) > 1 and lengths & set(pair[1])
    ][:2]
    text = f"The function cannot be run on these weights and inputs: {error}"
    listed = ", ".join(f"{name} has shape {shape}" for name, shape in found)
    return f"{text}\nOf what was given, {listed}." if found else text


def _given_reason(path: tuple[Any, ...]) -> Reason:
    """Why the axes of an array that is no weight are fixed."""
    if path[0].idx == 0:
        return Reason(f"constant {jtu.keystr(path[1:])}")
    return Reason(f"input {path[1].idx}{jtu.keystr(path[2:])}")


def name_all(free: PyTree, found: Found, names: Names | None = None) -> WeightSpace:
    """Names everything."""
    bare, treedef = read(free)
    names = names or Names(found.analysis.sets)
    leaves = [
        describe(leaf, cut, found.analysis, names)
        for leaf, cut in zip(bare, found.cuts, strict=True)
    ]
    nested = found.analysis.nested.items()
    return WeightSpace(
        treedef,
        tuple(leaves),
        frozenset(names.reasons),
        tuple((names.of[inner], names.of[block]) for inner, block in nested),
        tuple(names.reasons.items()),
        tuple(found.analysis.sets.blamed),
        found.ties,
    )
