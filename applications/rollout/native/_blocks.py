"""Blocks of simulations: how many, on how many threads, and their steps in C."""

import concurrent.futures
from collections.abc import Callable
from typing import Any, final

import mujoco
import numpy as np
from jaxtyping import Int
from mujoco.batch import Batch, SimulationError

from applications.envs.native import NativeTask
from applications.rollout.native._simulations import Simulations


# Most episodes in a block: so many that calling the compiled function costs little
# beside the physics.
LARGEST = 512
# A block of which no more than one in four goes on is continued as a smaller one.
_SHRINK = 4
_SMALLEST = 16


def block_size(size: int, threads: int, block: int | None = None) -> int:
    """Finds how many episodes a thread runs at once.

    Args:
        size: How many there are.
        threads: How many threads.
        block: The most that are wanted at once, if that matters.

    Returns:
        A number of which all threads get equally many, no more than `LARGEST`.
    """
    if block is not None:
        return min(block, -(-size // threads))
    rounds = -(-size // (LARGEST * threads))
    return -(-size // (rounds * threads))


def run_blocks(run: Callable[[int], Any], firsts: range, threads: int) -> list[Any]:
    """Runs blocks beside each other.

    Args:
        run: Runs the block that begins with an episode of some number.
        firsts: First episode of each block.
        threads: How many threads.

    Returns:
        What the blocks gave, in their order.
    """
    workers = min(threads, len(firsts))
    if workers == 1:
        return [run(first) for first in firsts]
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run, firsts))


def smaller(alive: np.ndarray) -> Int[np.ndarray, " kept"] | None:
    """Finds the rows to go on with, where a block has become too large.

    Args:
        alive: Which rows go on.

    Returns:
        A quarter of the rows, those that go on first, in their order; None as long as
        more than that go on.
    """
    size = max(len(alive) // _SHRINK, _SMALLEST)
    if alive.sum() > size or size >= len(alive):
        return None
    return np.argsort(~alive, kind="stable")[:size]


@final
class Block:
    """Simulations of one thread, in double precision, read in single precision.

    Attributes:
        state: Live arrays in double precision, by the names that MuJoCo gives them.
    """

    def __init__(self, task: NativeTask, size: int):
        self._definition = task.definition
        # One thread: blocks run beside each other.
        if "cfrc_ext" in self._definition.derived:
            self._batch = Simulations(task.model, size)
        else:
            self._batch = Batch(task.model, size, 1)
        batch = self._batch
        self.state: dict[str, np.ndarray] = {
            "qpos": batch.qpos,
            "qvel": batch.qvel,
            "ctrl": batch.ctrl,
            "qacc_warmstart": batch.qacc_warmstart,
        }
        names = self._definition.derived
        self._derived = {name: self._batch.bind(name) for name in names}

    def start(self, ids: Any, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Puts simulations into start states: no control, a cold solver, as with MJX.

        Args:
            ids: Which simulations.
            qpos: Their positions.
            qvel: Their velocities.
        """
        self.state["qpos"][ids] = qpos
        self.state["qvel"][ids] = qvel
        self.state["ctrl"][ids] = 0.0
        self.state["qacc_warmstart"][ids] = 0.0
        if self._derived:
            self._batch.forward(np.arange(len(self.state["qpos"]))[ids])
            self.state["qacc_warmstart"][ids] = 0.0

    def step(self, ids: Int[np.ndarray, " ids"], ctrl: np.ndarray) -> None:
        """Advances simulations by one control step. Those that break become NaN."""
        self.state["ctrl"][ids] = ctrl
        try:
            self._batch.step(ids, nstep=self._definition.frame_skip)
        except SimulationError as error:
            # The others have been stepped; these end here.
            self.state["qvel"][error.ids] = np.nan

    def read(self, rows: Any) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Positions, velocities and what else the task reads, of some simulations."""
        derived = {name: single(x[rows]) for name, x in self._derived.items()}
        return (
            single(self.state["qpos"][rows]),
            single(self.state["qvel"][rows]),
            derived,
        )

    def save(self) -> dict[str, np.ndarray]:
        """Copies all arrays, by name."""
        return {k: x.copy() for k, x in (self.state | self._derived).items()}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Puts simulations where others were when their arrays were saved.

        What is derived stays behind until the next step.

        Args:
            arrays: From `save`.
        """
        for name, array in self.state.items():
            array[:] = arrays[name]


def single(x: np.ndarray) -> np.ndarray:
    """Rounds to single precision. What is too large is infinite, and ends episodes."""
    with np.errstate(over="ignore"):
        return x.astype(np.float32)


def sizes_of_derived(task: NativeTask, size: int) -> dict[str, tuple[int, ...]]:
    """The shapes of what else the task reads, of a block."""
    data = mujoco.MjData(task.model)
    names = task.definition.derived
    return {name: (size, *getattr(data, name).shape) for name in names}
