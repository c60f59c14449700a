"""Policies on disk: a line of JSON that says what it is, then its weights."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any, BinaryIO

import equinox as eqx
import jax.random as jr

from applications.envs import AbstractEnvironment, make
from applications.policies._mlp import MLPPolicy


_FORMAT = "wsl-policy 1"


def write_policy(
    file: BinaryIO,
    policy: MLPPolicy,
    *,
    task: str,
    task_options: dict[str, Any],
) -> None:
    """Writes a policy with all that is needed to run it again.

    Args:
        file: Open for writing, in binary mode.
        policy: The policy.
        task: Name of the task that it acts in.
        task_options: Options that the task was made with.
    """
    buffer = io.BytesIO()
    eqx.tree_serialise_leaves(buffer, policy)
    weights = buffer.getvalue()
    header = {
        "format": _FORMAT,
        "task": task,
        "task_options": task_options,
        "hidden": [layer.out_features for layer in policy.layers[:-1]],
        "activation": policy.activation,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    file.write(json.dumps(header).encode() + b"\n")
    file.write(weights)


def read_policy(path: Path) -> tuple[AbstractEnvironment, MLPPolicy]:
    """Reads a policy file.

    Args:
        path: The file.

    Returns:
        The task and the policy.

    Raises:
        ValueError: If it is not a whole policy file.
    """
    with open(path, "rb") as file:
        try:
            header = json.loads(file.readline())
        except ValueError:
            header = None
        weights = file.read()
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a policy file.")
    if header.get("sha256") != hashlib.sha256(weights).hexdigest():
        raise ValueError(f"{path} is damaged: its checksum does not fit.")
    try:
        task = make(header["task"], **header["task_options"])
        hidden = tuple(header["hidden"])
        # Files from before there was a choice do not say.
        activation = header.get("activation", "tanh")
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} has a header without {error}.") from error
    like = eqx.filter_eval_shape(
        lambda: MLPPolicy(task, hidden, activation=activation, key=jr.key(0))
    )
    try:
        policy = eqx.tree_deserialise_leaves(io.BytesIO(weights), like)
    except RuntimeError as error:  # of Equinox, around whatever went wrong
        raise ValueError(f"{path} does not fit its own header: {error}") from error
    return task, policy
