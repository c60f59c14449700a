"""Policies on disk: two lines of JSON that say what it is, then its weights.

The first line holds the format and the checksum of all that follows; the second names
the task and the policy's class or factory; then come the weights, leaf by leaf, as
little-endian numbers of the dtype that the header says, and nothing more.
"""

import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any, BinaryIO, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from applications.envs import AbstractEnvironment, make
from applications.policies._make import make_policy
from applications.policies._mlp import Activation, Bound, MLPPolicy
from applications.policies._policy import AbstractPolicy


_FORMAT, _FORMER = "wsl-policy 2", "wsl-policy 1"
# Of bytes; text beyond it is no header.
_LONGEST_HEADER = 1 << 20
_DTYPES = ("bfloat16", "float16", "float32", "float64")


def write_policy(
    file: BinaryIO,
    policy: AbstractPolicy,
    *,
    task: str,
    task_options: dict[str, Any],
    factory: str = "mlp",
    hidden: tuple[int, ...] | None = None,
) -> None:
    """Writes a policy with all that is needed to run it again.

    Args:
        file: Open for writing, in binary mode.
        policy: The policy.
        task: Name of the task that it acts in.
        task_options: Options that the task was made with.
        factory: The name that `make_policy` makes such policies by.
        hidden: The widths that it was made with. An `MLPPolicy` knows its own.

    Raises:
        ValueError: If the policy's arrays are not all of one floating-point dtype, or
            `factory` and `hidden` do not say how to make it.
    """
    options: dict[str, Any]
    if factory == "mlp":
        if not isinstance(policy, MLPPolicy):
            raise ValueError(
                f"{type(policy).__name__} is no MLPPolicy; name the factory that "
                "makes such policies."
            )
        policy = policy.whole
        layers: Any = policy.layers
        options = {
            "hidden": [layer.out_features for layer in layers[:-1]],
            "activation": policy.activation,
            "bound": policy.bound,
        }
        levels = getattr(policy.action_space, "levels", None)
        options |= {} if levels is None else {"levels": levels}
    elif hidden is None:
        raise ValueError(f"hidden is missing: the widths that {factory} was given.")
    else:
        options = {"hidden": list(hidden)}
    leaves = jax.tree.leaves(eqx.filter(policy, eqx.is_array))
    dtypes = {leaf.dtype.name for leaf in leaves}
    if len(dtypes) != 1 or not dtypes <= set(_DTYPES):
        raise ValueError(
            f"The policy's arrays are of {sorted(dtypes)}; they must all be of one of "
            f"{', '.join(_DTYPES)}."
        )
    header = {
        "task": task,
        "task_options": task_options,
        "policy": factory,
        "options": options,
        "dtype": dtypes.pop(),
    }
    weights = b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in leaves)
    body = json.dumps(header).encode() + b"\n" + weights
    first = {"format": _FORMAT, "sha256": hashlib.sha256(body).hexdigest()}
    file.write(json.dumps(first).encode() + b"\n" + body)


def read_policy(path: Path) -> tuple[AbstractEnvironment, AbstractPolicy]:
    """Reads a policy file.

    A header may name code that is not ours, as `package.module:Factory`. That module is
    imported, so read such files only from people whose code you would run.

    Args:
        path: The file.

    Returns:
        The task and the policy, with weights of the dtype that was written.

    Raises:
        ValueError: If it is not a whole policy file, or names a task or policy that
            cannot be made.
    """
    with open(path, "rb") as file:
        first, rest = _json(file.readline(_LONGEST_HEADER)), file.read()
    if not isinstance(first, dict) or first.get("format") not in (_FORMAT, _FORMER):
        raise ValueError(f"{path} is not a policy file.")
    if first.get("sha256") != hashlib.sha256(rest).hexdigest():
        raise ValueError(f"{path} is damaged: its checksum does not fit.")
    try:
        if first["format"] == _FORMER:
            return _read_former(first, rest)
        line, _, weights = rest.partition(b"\n")
        return _read(_json(line[:_LONGEST_HEADER]), weights)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def _read(header: Any, weights: bytes) -> tuple[AbstractEnvironment, AbstractPolicy]:
    if not isinstance(header, dict):
        raise ValueError("has no header.")
    options = _field(header, "options", dict)
    name, dtype = _field(header, "policy", str), _field(header, "dtype", str)
    if dtype not in _DTYPES:
        raise ValueError(f"has a header with dtype {dtype!r}.")
    size = jnp.dtype(dtype).itemsize
    hidden = _widths(options, at_most=len(weights) // size)
    like: dict[str, Any] = {}
    if name == "mlp":
        # Files from before there was a choice do not name a bound.
        like["bound"] = _choice({"bound": "tanh"} | options, "bound", Bound)
        like["activation"] = _choice(options, "activation", Activation)
        if "levels" in options:
            like["levels"] = _levels(options)
    task = _task(header)
    form = _form(task, name, hidden, like)
    arrays, static = eqx.partition(form, _is_form)
    forms, structure = jax.tree.flatten(arrays)
    expected = size * sum(math.prod(form.shape) for form in forms)
    if expected != len(weights):
        raise ValueError(
            f"does not fit its own header: it has {len(weights)} bytes of weights, "
            f"not {expected}."
        )
    numbers = np.frombuffer(weights, jnp.dtype(dtype))
    ends = np.cumsum([math.prod(form.shape) for form in forms])
    with _keeping(dtype):
        leaves = [
            jnp.asarray(part.reshape(form.shape))
            for part, form in zip(np.split(numbers, ends[:-1]), forms, strict=True)
        ]
    return task, eqx.combine(jax.tree.unflatten(structure, leaves), static)


def _read_former(
    header: dict[str, Any], weights: bytes
) -> tuple[AbstractEnvironment, AbstractPolicy]:
    """Reads what format 1 has: an `MLPPolicy` in Equinox's serialisation."""
    # The first files do not name an activation.
    options = {"activation": "tanh"} | header
    hidden = _widths(options, at_most=len(weights))
    like = {"activation": _choice(options, "activation", Activation)}
    task = _task(header)
    form = _form(task, "mlp", hidden, like)
    file = io.BytesIO(weights)
    try:
        # The header does not name the dtype; the first array does.
        dtype = np.load(file, allow_pickle=False).dtype
        file.seek(0)
        form = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, dtype) if _is_form(x) else x, form
        )
        with _keeping(dtype.name):
            policy = eqx.tree_deserialise_leaves(file, form)
    # Of Equinox a RuntimeError, around whatever went wrong.
    except (AttributeError, EOFError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"does not fit its own header: {reason}") from error
    if file.read(1):
        raise ValueError("does not fit its own header: it has more weights.")
    return task, policy


def _form(
    task: AbstractEnvironment,
    name: str,
    hidden: tuple[int, ...],
    like: dict[str, Any],
) -> Any:
    """The policy with shapes in place of arrays; `like` is what perceptrons take."""

    def draw() -> AbstractPolicy:
        if name == "mlp":
            return MLPPolicy(task, hidden, **like, key=jr.key(0))
        return make_policy(name, task, hidden, key=jr.key(0))

    try:
        return eqx.filter_eval_shape(draw)
    except Exception as error:  # whatever a factory raises
        reason = str(error).partition("\n")[0]
        raise ValueError(f"names a policy that cannot be made: {reason}") from error


def _task(header: dict[str, Any]) -> AbstractEnvironment:
    name = _field(header, "task", str)
    options = _field(header, "task_options", dict)
    try:
        return make(name, **options)
    except Exception as error:  # whatever a factory raises
        reason = str(error).partition("\n")[0]
        raise ValueError(f"names a task that cannot be made: {reason}") from error


def _widths(options: dict[str, Any], *, at_most: int) -> tuple[int, ...]:
    hidden = _field(options, "hidden", list)
    # A bool is an int to Python, but no width.
    whole = all(type(width) is int and width >= 1 for width in hidden)
    if not whole or sum(hidden) > at_most:
        raise ValueError(
            f"has a header with widths {str(hidden)[:80]}; they must be whole numbers "
            f"from 1 on, and no more than {at_most} together have weights here."
        )
    return tuple(hidden)


def _levels(options: dict[str, Any]) -> int:
    levels = options["levels"]
    if type(levels) is not int or levels < 2:
        raise ValueError(
            f"has a header with levels {str(levels)[:80]}; they must be a whole number "
            "from 2 on."
        )
    return levels


def _choice(options: dict[str, Any], name: str, names: Any) -> str:
    value = _field(options, name, str)
    if value not in get_args(names):
        raise ValueError(f"has a header with {name} {value!r}.")
    return value


def _field(header: dict[str, Any], name: str, kind: type) -> Any:
    if name not in header:
        raise ValueError(f"has a header without {name!r}.")
    if not isinstance(header[name], kind):
        raise ValueError(
            f"has a header with {name} {str(header[name])[:80]!r}; it must be a "
            f"{ {dict: 'JSON object', list: 'list', str: 'string'}[kind] }."
        )
    return header[name]


def _is_form(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _keeping(dtype: str) -> Any:
    """A context in which arrays of a dtype can be made, whatever JAX's mode."""
    mode: Any = jax.config
    return jax.enable_x64(dtype == "float64" or mode.jax_enable_x64)


def _json(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
