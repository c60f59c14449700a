"""Policies on disk: a line of JSON that says what it is, then its weights."""

import json
from pathlib import Path
from typing import Any, BinaryIO

import equinox as eqx
import jax.random as jr

from applications.envs import AbstractTask, make
from applications.policy._mlp import MLPPolicy


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
    header = {
        "format": _FORMAT,
        "task": task,
        "task_options": task_options,
        "hidden": [layer.out_features for layer in policy.layers[:-1]],
    }
    file.write(json.dumps(header).encode() + b"\n")
    eqx.tree_serialise_leaves(file, policy)


def read_policy(path: Path) -> tuple[AbstractTask, MLPPolicy, dict[str, Any]]:
    """Reads a policy file.

    Args:
        path: The file.

    Returns:
        The task, the policy, and the header.

    Raises:
        ValueError: If it is not a whole policy file.
    """
    with open(path, "rb") as file:
        try:
            header = json.loads(file.readline())
        except ValueError:
            header = None
        if not isinstance(header, dict) or header.get("format") != _FORMAT:
            raise ValueError(f"{path} is not a policy file.")
        task = make(header["task"], **header["task_options"])
        like = eqx.filter_eval_shape(
            lambda: MLPPolicy(task, tuple(header["hidden"]), key=jr.key(0))
        )
        try:
            policy = eqx.tree_deserialise_leaves(file, like)
        except (EOFError, RuntimeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    return task, policy, header
