"""MuJoCo's own engine, in C, for the tasks on CPUs."""

from typing import Any, final

import equinox as eqx
import jax
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs.mujoco import (
    AbstractMujocoDefinition,
    AbstractMujocoTask,
    Physics as Physics,
)


@final
class NativeTask(AbstractMujocoTask):
    """A MuJoCo task stepped by MuJoCo itself, outside `jax.jit`.

    It has the methods of an `AbstractTask`, for one episode at a time and in Python:
    for pictures, adapters and tests. Populations go through
    `applications.rollout.native.NativeRollout`. The state is kept in double precision,
    the definition computes in single precision.

    Attributes:
        definition: The task being stepped.
        model: The compiled model. Simulations that break stay broken: MuJoCo's own
            reset of such is switched off.
    """

    definition: AbstractMujocoDefinition
    model: mujoco.MjModel = eqx.field(static=True)

    def __init__(self, definition: AbstractMujocoDefinition):
        """Compiles the definition's model.

        Args:
            definition: What to step.
        """
        self.definition = definition
        self.model = definition.model()
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET

    def reset(self, *, key: PRNGKeyArray) -> Physics:
        """Draws a start state, with zero control and a cold solver."""
        qpos, qvel = self.definition.initial(key=key)
        data = mujoco.MjData(self.model)
        data.qpos[:], data.qvel[:] = qpos, qvel
        mujoco.mj_forward(self.model, data)
        data.qacc_warmstart[:] = 0
        return self._read(data)

    def observe(self, state: Physics) -> Float[Array, " observation"]:
        """What the policy sees of a state."""
        return _observe(self.definition, _single(state))

    def step(
        self, state: Physics, action: Float[Array, " action"]
    ) -> tuple[Physics, Float[Array, ""], Bool[Array, ""]]:
        """Advances one control step, `frame_skip` simulation steps.

        Args:
            state: The state before.
            action: One action of `action_space`.

        Returns:
            The next state, the reward of this step, and whether the task ended here.
        """
        data = mujoco.MjData(self.model)
        data.qpos[:], data.qvel[:] = state.qpos, state.qvel
        data.qacc_warmstart[:] = state.qacc_warmstart
        data.ctrl[:] = _control(self.definition, action)
        mujoco.mj_step(self.model, data, nstep=self.definition.frame_skip)
        if "cfrc_ext" in self.definition.derived:
            # Forces between bodies are computed on demand only.
            mujoco.mj_rnePostConstraint(self.model, data)
        after = self._read(data)
        judged = _judge(self.definition, _single(state), _single(after), action)
        return after, *judged

    def _read(self, data: mujoco.MjData) -> Physics:
        def copy(name: str) -> Any:
            return getattr(data, name).copy()

        return Physics(
            copy("qpos"),
            copy("qvel"),
            copy("ctrl"),
            copy("qacc_warmstart"),
            {name: copy(name) for name in self.definition.derived},
        )


def _single(physics: Physics) -> Any:
    # What is too large is infinite, and ends the episode.
    with np.errstate(over="ignore"):
        return jax.tree.map(lambda x: np.asarray(x, np.float32), physics)


@eqx.filter_jit
def _observe(definition: AbstractMujocoDefinition, physics: Physics) -> Array:
    return definition.observe(physics)


@eqx.filter_jit
def _control(definition: AbstractMujocoDefinition, action: Array) -> Array:
    return definition.control(action)


@eqx.filter_jit
def _judge(
    definition: AbstractMujocoDefinition,
    before: Physics,
    after: Physics,
    action: Array,
) -> tuple[Array, Array]:
    return definition.reward(before, after, action), definition.terminated(after)
