"""A worker process of `HostSimulations`. It imports no JAX, and is run as a file.

On the socket come `(method, arguments)`; the answer is `(True, result)`, or `(False,
what went wrong, and a traceback)`. The process ends with the socket.
"""

import signal
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

import numpy as np


class Environments:
    """Environments in rows, each made when it is first reset.

    Methods are as of `HostSimulations`.
    """

    def __init__(self, id: str, options: dict[str, Any]):
        """Keeps what it takes to make them.

        Args:
            id: As of `gymnasium.make`.
            options: What it takes besides.
        """
        self._id = id
        self._options = options
        self._envs: dict[int, Any] = {}

    def reset(self, rows: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Starts episodes."""
        return np.stack(
            [self._reset(int(row), int(s)) for row, s in zip(rows, seeds, strict=True)]
        )

    def _reset(self, row: int, seed: int) -> np.ndarray:
        if row not in self._envs:
            import gymnasium

            self._envs[row] = gymnasium.make(self._id, **self._options)
        observation, _ = self._envs[row].reset(seed=seed)
        return _flat(observation)

    def step(self, rows: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        """Advances by one step."""
        steps = [
            self._step(self._envs[int(row)], action)
            for row, action in zip(rows, actions, strict=True)
        ]
        observations, rewards, terminated, truncated = zip(*steps, strict=True)
        return (
            np.stack(observations),
            _single(rewards),
            np.asarray(terminated, bool),
            np.asarray(truncated, bool),
        )

    def _step(self, env: Any, action: Any) -> tuple[np.ndarray, float, Any, Any]:
        space = env.action_space
        if np.ndim(action):  # a vector in a box
            if not np.isfinite(action).all():
                size = int(np.prod(env.observation_space.shape))
                return np.full(size, np.nan, np.float32), np.nan, True, False
            given = action.reshape(space.shape).astype(space.dtype)
            given = np.clip(given, space.low, space.high)
        else:
            given = space.start + int(action)
        observation, reward, terminated, truncated, _ = env.step(given)
        return _flat(observation), float(reward), terminated, truncated

    def draw(self, row: int) -> Any:
        """The picture of a row, of shape `(height, width, 3)`."""
        return self._envs[row].render()

    def frames_per_second(self, row: int) -> float | None:
        """How many steps make a second, if the environment says so."""
        rate = self._envs[row].metadata.get("render_fps")
        return None if rate is None else float(rate)

    def close(self) -> None:
        """Closes all of them."""
        for env in self._envs.values():
            env.close()


def _flat(observation: Any) -> np.ndarray:
    return _single(observation).ravel()


def _single(numbers: Any) -> np.ndarray:
    # What is too large for single precision is infinite.
    with np.errstate(over="ignore"):
        return np.asarray(numbers).astype(np.float32)


def _last_line(error: BaseException) -> str:
    """What an error says, and where it came from."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    said = traceback.format_exception_only(error)[-1].strip()
    return f"{said} ({where.filename}, line {where.lineno})"


def main() -> None:
    """Serves the socket whose number is the program's argument, until it closes."""
    # Whoever started this process decides when it ends, by closing the socket.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    # The caller's, so that what it can import can be imported here.
    sys.path[:], *made = connection.recv()
    environments = Environments(*made)
    while True:
        try:
            method, arguments = connection.recv()
        except (EOFError, OSError):
            break
        try:
            answer = True, getattr(environments, method)(*arguments)
        except Exception as error:  # whatever an environment raises
            answer = False, (_last_line(error), traceback.format_exc())
        try:
            connection.send(answer)
        except OSError:
            break
    environments.close()


if __name__ == "__main__":
    main()
