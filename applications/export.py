"""``python -m applications.export DIR FILE``: a policy for programs without JAX."""

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from applications.envs import AbstractEnvironment
from applications.policies import (
    AbstractPolicy,
    export_arrays,
    export_onnx,
    run_arrays,
)
from applications.rollout import compile_rollout
from applications.settings import check_settings, Seed, UserError
from applications.training import (
    check_output,
    exit_on_user_error,
    key_for,
    open_policy,
    Purpose,
    write_atomically,
)


_OBSERVATIONS, _EPISODES = 1000, 16
# Of the range of an action: how far a number may be off by rounding.
_ROUNDING = 1e-4


@dataclasses.dataclass(frozen=True)
class ExportArgs:
    """Writes a policy for programs without JAX, and checks that it acts the same.

    A file .npz is for NumPy: the layers' weights and biases and how to use them. A file
    .onnx is a model with the input observation and the output action; it needs the
    packages onnx and onnxruntime. Both are checked on 1,000 observations.
    """

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Directory of a run, or a policy file."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """What to write, a .npz or .onnx file."""

    seed: Seed = 0
    """Seed of the observations."""


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Exports as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    asked = tyro.cli(ExportArgs, prog="python -m applications.export", args=arguments)
    check_settings(asked)
    if asked.file.suffix not in (".npz", ".onnx"):
        raise UserError(f"{asked.file} must end in .npz or .onnx.")
    check_output(asked.file, "FILE")
    export = export_arrays
    if asked.file.suffix == ".onnx":
        export = export_onnx
        for name in ("onnx", "onnxruntime"):
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise UserError(
                    f"An .onnx file needs {name}: pip install onnx onnxruntime"
                ) from error
    task, policy = open_policy(asked.path)
    try:
        write_atomically(asked.file, lambda file: export(file, policy))
    except ValueError as error:
        raise UserError(str(error)) from error
    seen = _observations(task, policy, asked.seed)
    expected = np.asarray(jax.vmap(lambda x: _selected(policy, task, policy(x)))(seen))
    found = _acted(asked.file, seen)
    same = np.isclose(found, expected, rtol=0, atol=_ROUNDING * np.ptp(expected))
    share = same.reshape(len(seen), -1).all(axis=1).mean()
    print(f"Written: {asked.file}")
    print(f"The same action in {share:.1%} of {len(seen):,} observations.")
    return 0


def _selected(policy: Any, task: Any, output: Any) -> Any:
    """The action that an output stands for, inside the box."""
    action = policy.action_space.select(output)
    return action if action.ndim == 0 else policy.action_space.clip(action)


def _observations(
    task: AbstractEnvironment, policy: AbstractPolicy, seed: int
) -> np.ndarray:
    """What the policy sees in some episodes, and as much with noise."""
    run = compile_rollout(
        task, lambda _: policy, episodes=_EPISODES, visits=_OBSERVATIONS // _EPISODES
    )
    episodes = run(np.zeros((1, 1)), key=key_for(seed, Purpose.EVALUATE))
    assert episodes.visits is not None
    seen = np.asarray(episodes.visits.observation[episodes.visits.there])
    random = np.random.default_rng(seed)
    chosen = seen[random.integers(len(seen), size=_OBSERVATIONS)]
    noise = random.normal(size=chosen.shape) * seen.std(axis=0)
    noise[::2] = 0
    return (chosen + noise).astype(np.float32)


def _acted(file: Path, seen: np.ndarray) -> np.ndarray:
    """What the exported file does."""
    if file.suffix == ".npz":
        return run_arrays(file, seen)
    onnxruntime: Any = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(["action"], {"observation": seen})[0]


if __name__ == "__main__":
    sys.exit(main())
