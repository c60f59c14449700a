from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs._outcome_task import split_outcome
from applications.envs._task import AbstractEnvironment


_Policy: TypeAlias = Callable[[Float[Array, " observation"]], Float[Array, " outputs"]]
_FRAMES_PER_SECOND = 25
_HEIGHT, _WIDTH = 240, 320


def render(
    task: AbstractEnvironment, policy: _Policy, path: Path, *, key: PRNGKeyArray
) -> None:
    """Draws one episode as an animated picture, without a display.

    MuJoCo draws through EGL when the environment variable `MUJOCO_GL` was set to
    `egl` before `mujoco` was imported. An environment of Gymnasium draws itself.

    Args:
        task: A task with a MuJoCo model, or a `GymnasiumEnvironment`.
        policy: The policy.
        path: The `.webp` file to write.
        key: Draws the start state.

    Raises:
        ValueError: If the task cannot be drawn, or the file has another suffix.
        RuntimeError: If there is no way to draw here.
    """
    if path.suffix != ".webp":
        raise ValueError(f"{path} must end in .webp.")
    # Slow to import, and needed only here.
    from PIL import Image

    from applications.envs.adapters import GymnasiumEnvironment
    from applications.envs.mujoco import AbstractMujocoTask

    task, _ = split_outcome(task)
    if isinstance(task, AbstractMujocoTask):
        pictures, seconds = _draw_mujoco(task, policy, key=key)
    elif isinstance(task, GymnasiumEnvironment):
        pictures, seconds = _draw_gymnasium(task, policy, key=key)
    else:
        raise ValueError(f"{type(task).__name__} has no MuJoCo model to draw.")
    first, *others = (Image.fromarray(picture) for picture in pictures)
    first.save(
        path,
        save_all=True,
        append_images=others,
        duration=round(1000 * seconds),
        loop=0,
        quality=70,
    )


def _draw_mujoco(
    task: Any, policy: _Policy, *, key: PRNGKeyArray
) -> tuple[list[np.ndarray], float]:
    """Pictures of an episode, and how many seconds each of them lasts."""
    import mujoco

    from applications.envs.native import NativeTask

    model = task.definition.model()
    data = mujoco.MjData(model)
    control_step = model.opt.timestep * task.definition.frame_skip
    every = max(1, round(1 / (_FRAMES_PER_SECOND * control_step)))
    positions = _positions(NativeTask(task.definition), policy, key=key)
    try:
        renderer = mujoco.Renderer(model, _HEIGHT, _WIDTH)
    except Exception as error:  # each GL backend has errors of its own
        raise RuntimeError(
            f"MuJoCo cannot draw here ({error}). On Debian: apt-get install libegl1 "
            "libegl-mesa0 libgl1-mesa-dri, and set MUJOCO_GL=egl."
        ) from error
    pictures = []
    with renderer:
        for qpos in positions[::every]:
            data.qpos[:] = qpos
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera=0 if model.ncam else -1)
            pictures.append(renderer.render())
    return pictures, every * control_step


def _positions(task: Any, policy: _Policy, *, key: PRNGKeyArray) -> list[np.ndarray]:
    """Positions before each control step of one episode, and after the last."""
    act = _acting(task, policy)
    state = task.reset(key=key)
    positions = [np.asarray(state.qpos)]
    for _ in range(task.horizon):
        state, _, terminated = task.step(state, act(task.observe(state)))
        if not np.isfinite(state.qpos).all():
            break
        positions.append(np.asarray(state.qpos))
        if terminated:
            break
    return positions


def _acting(task: Any, policy: _Policy) -> Callable[..., Any]:
    """From what a policy sees to its action."""
    space = getattr(policy, "action_space", task.action_space)
    return eqx.filter_jit(lambda seen: space.select(policy(seen)))


def _draw_gymnasium(
    task: Any, policy: _Policy, *, key: PRNGKeyArray
) -> tuple[list[np.ndarray], float]:
    """Pictures of an episode, and how many seconds each of them lasts."""
    import gymnasium

    from applications.envs.adapters._gymnasium_worker import Environments

    act = _acting(task, policy)
    options = task.make_options | {"render_mode": "rgb_array"}
    envs, row, pictures = Environments(task.id, options), np.zeros(1, int), []
    try:
        seen = envs.reset(row, np.asarray(task.seed(key=key))[None])
        rate = envs.frames_per_second(0) or _FRAMES_PER_SECOND
        every = max(1, round(rate / _FRAMES_PER_SECOND))
        for i in range(task.horizon):
            if i % every == 0:
                pictures.append(envs.draw(0))
            action = np.asarray(act(jnp.asarray(seen[0])))
            seen, _, terminated, truncated = envs.step(row, action[None])
            if terminated[0] or truncated[0]:
                break
        pictures.append(envs.draw(0))
    except gymnasium.error.Error as error:
        raise RuntimeError(f"gymnasium:{task.id} cannot draw here: {error}") from error
    finally:
        envs.close()
    if not all(isinstance(picture, np.ndarray) for picture in pictures):
        raise ValueError(f"gymnasium:{task.id} draws no pictures.")
    return pictures, every / rate
