"""MJX as the engine of MuJoCo tasks, for accelerators."""

import contextlib
import io
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs._task import AbstractTask
from applications.envs.mujoco import (
    AbstractMujocoDefinition,
    AbstractMujocoTask,
    Physics,
)


# MJX prints that its optional Warp engine, which is not used here, is missing.
with contextlib.redirect_stdout(io.StringIO()):
    from mujoco import mjx


@final
class MJXTask(AbstractMujocoTask, AbstractTask):
    """A MuJoCo task stepped by MJX, inside `jax.jit` and `jax.vmap`.

    The state is a `Physics`, a few dozen numbers; everything else in `mjx.Data` is
    recomputed by each simulation step before it is read.

    Attributes:
        definition: The task being stepped.
    """

    definition: AbstractMujocoDefinition
    _model: mjx.Model
    _template: mjx.Data

    def __init__(self, definition: AbstractMujocoDefinition):
        """Compiles the definition's model and hands it to MJX.

        Args:
            definition: What to step.

        Raises:
            ValueError: If the model has state that `Physics` does not carry.
        """
        model = definition.model()
        if model.na or model.nmocap or model.neq:
            raise ValueError(
                f"The model has {model.na} actuator activations, {model.nmocap} mocap "
                f"bodies and {model.neq} equality constraints. A Physics carries only "
                "qpos, qvel, ctrl and qacc_warmstart, so all three must be 0."
            )
        self.definition = definition
        # MJX commits its arrays to one device. Uncommitted copies go wherever the
        # computation is, sharded ones too, and leave `step` with one compilation.
        self._model, self._template = jax.tree.map(
            lambda leaf: jnp.asarray(np.asarray(leaf)),
            (mjx.put_model(model, impl="jax"), mjx.make_data(model, impl="jax")),
        )

    def reset(self, *, key: PRNGKeyArray) -> Physics:
        """Draws a start state, with zero control and a cold solver."""
        qpos, qvel = self.definition.initial(key=key)
        controls = jnp.zeros(self._model.nu, qvel.dtype)
        physics = Physics(qpos, qvel, controls, jnp.zeros_like(qvel))
        if not self.definition.derived:
            return physics
        with _mjx_rules():
            data = mjx.forward(self._model, self._load(physics))
        return Physics(qpos, qvel, controls, jnp.zeros_like(qvel), self._derive(data))

    def observe(self, state: Physics) -> Float[Array, " observation"]:
        """What the policy sees of a state."""
        return self.definition.observe(state)

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
        definition = self.definition
        driven = Physics(
            state.qpos,
            state.qvel,
            definition.control(action),
            state.qacc_warmstart,
            state.derived,
        )
        last = definition.frame_skip - 1
        after, _ = jax.lax.scan(
            lambda physics, i: (self._simulate(physics, i == last), None),
            driven,
            jnp.arange(definition.frame_skip),
        )
        reward = definition.reward(state, after, action)
        return after, reward, definition.terminated(after)

    def _simulate(self, physics: Physics, derive: Bool[Array, ""]) -> Physics:
        """One simulation step under the control that `physics` holds."""
        with _mjx_rules():
            data = mjx.step(self._model, self._load(physics))
        derived = physics.derived
        if derived:
            derived = jax.lax.cond(
                derive, lambda data: self._derive(data), lambda _: derived, data
            )
        return Physics(data.qpos, data.qvel, physics.ctrl, data.qacc_warmstart, derived)

    def _load(self, physics: Physics) -> mjx.Data:
        return self._template.replace(
            qpos=physics.qpos,
            qvel=physics.qvel,
            ctrl=physics.ctrl,
            qacc_warmstart=physics.qacc_warmstart,
        )

    def _derive(self, data: Any) -> dict[str, Float[Array, "..."]]:
        names = self.definition.derived
        if "cfrc_ext" in names:
            # As in MuJoCo, forces between bodies are computed on demand only.
            with _mjx_rules():
                data = mjx.rne_postconstraint(self._model, data)
        return {
            name: data._impl.cfrc_ext if name == "cfrc_ext" else getattr(data, name)
            for name in names
        }


@contextlib.contextmanager
def _mjx_rules():
    """MJX mixes dtypes and ranks, and TF32 products would be too coarse for it."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.default_matmul_precision("highest"),
    ):
        yield
