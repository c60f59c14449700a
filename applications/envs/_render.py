from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs._task import AbstractEnvironment


_FRAMES_PER_SECOND = 25
_HEIGHT, _WIDTH = 240, 320


def render(
    task: AbstractEnvironment,
    policy: Callable[[Float[Array, " observation"]], Float[Array, " outputs"]],
    path: Path,
    *,
    key: PRNGKeyArray,
) -> None:
    """Draws one episode as an animated picture, without a display.

    MuJoCo draws through EGL when the environment variable `MUJOCO_GL` was set to
    `egl` before `mujoco` was imported.

    Args:
        task: A task with a MuJoCo model.
        policy: The policy.
        path: The `.webp` file to write.
        key: Draws the start state.

    Raises:
        ValueError: If the task has no MuJoCo model, or the file another suffix.
        RuntimeError: If there is no way to draw here.
    """
    if path.suffix != ".webp":
        raise ValueError(f"{path} must end in .webp.")
    # Slow to import, and needed only here.
    import mujoco
    from PIL import Image

    from applications.envs._mujoco import AbstractMujocoDefinition
    from applications.envs.native import NativeTask

    definition = getattr(task, "definition", None)
    if not isinstance(definition, AbstractMujocoDefinition):
        raise ValueError(f"{type(task).__name__} has no MuJoCo model to draw.")
    model = definition.model()
    data = mujoco.MjData(model)
    control_step = model.opt.timestep * definition.frame_skip
    every = max(1, round(1 / (_FRAMES_PER_SECOND * control_step)))
    positions = _positions(NativeTask(definition), policy, key=key)
    try:
        renderer = mujoco.Renderer(model, _HEIGHT, _WIDTH)
    except Exception as error:  # each GL backend has errors of its own
        raise RuntimeError(
            f"MuJoCo cannot draw here ({error}). On Debian: apt-get install libegl1 "
            "libegl-mesa0 libgl1-mesa-dri, and set MUJOCO_GL=egl."
        ) from error
    with renderer:
        frames = []
        for qpos in positions[::every]:
            data.qpos[:] = qpos
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera=0 if model.ncam else -1)
            frames.append(Image.fromarray(renderer.render()))
    frames[0].save(
        path,
        save_all=True,
        append_images=frames[1:],
        duration=round(1000 * every * control_step),
        loop=0,
        quality=70,
    )


def _positions(
    task: Any,
    policy: Callable[[Float[Array, " observation"]], Float[Array, " outputs"]],
    *,
    key: PRNGKeyArray,
) -> list[np.ndarray]:
    """Positions before each control step of one episode, and after the last."""
    act = eqx.filter_jit(lambda seen: task.action_space.select(policy(seen)))
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
