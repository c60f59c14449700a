"""Simulations on MuJoCo's engine whose forces between bodies are known."""

from typing import final

import mujoco
import numpy as np
from jaxtyping import Int


@final
class Simulations:
    """As `Batch`, but with the forces between bodies after every step.

    MuJoCo computes them on demand only, and a batch cannot be asked to.
    """

    def __init__(self, model: mujoco.MjModel, size: int):
        self._model = model
        self._data = [mujoco.MjData(model) for _ in range(size)]
        self._derived: dict[str, np.ndarray] = {}
        self.qpos = self._stacked("qpos")
        self.qvel = self._stacked("qvel")
        self.ctrl = self._stacked("ctrl")
        self.qacc_warmstart = self._stacked("qacc_warmstart")

    def bind(self, name: str) -> np.ndarray:
        return self._derived.setdefault(name, self._stacked(name))

    def forward(self, ids: Int[np.ndarray, " ids"]) -> None:
        for i in ids.tolist():
            self._load(i)
            mujoco.mj_forward(self._model, self._data[i])
            self._save(i)

    def step(self, ids: Int[np.ndarray, " ids"], *, nstep: int) -> None:
        for i in ids.tolist():
            self._load(i)
            mujoco.mj_step(self._model, self._data[i], nstep=nstep)
            mujoco.mj_rnePostConstraint(self._model, self._data[i])
            self._save(i)

    def _stacked(self, name: str) -> np.ndarray:
        return np.stack([getattr(data, name) for data in self._data])

    def _load(self, i: int) -> None:
        data = self._data[i]
        data.qpos, data.qvel = self.qpos[i], self.qvel[i]
        data.ctrl, data.qacc_warmstart = self.ctrl[i], self.qacc_warmstart[i]

    def _save(self, i: int) -> None:
        data = self._data[i]
        self.qpos[i], self.qvel[i] = data.qpos, data.qvel
        self.qacc_warmstart[i] = data.qacc_warmstart
        for name, values in self._derived.items():
            values[i] = getattr(data, name)
