import importlib
import os
import secrets
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
Pictures: TypeAlias = list[np.ndarray]

FILMS = (".webp", ".gif", ".mp4")
_FRAMES_PER_SECOND = 25
_HEIGHT, _WIDTH = 480, 640


def check_film(task: AbstractEnvironment, path: Path) -> None:
    """Checks that a task can be drawn to a file, before any episode is run.

    Args:
        task: The task.
        path: The file.

    Raises:
        ValueError: If the file has another suffix, what writes it is missing, or the
            task has no pictures.
    """
    if path.suffix not in FILMS:
        raise ValueError(f"{path} must end in {', '.join(FILMS)}.")
    if path.suffix == ".mp4":
        try:
            importlib.import_module("imageio_ffmpeg")
        except ImportError as error:
            raise ValueError(
                f"{path} needs a video encoder: pip install imageio-ffmpeg, or "
                "let the name end in .webp or .gif."
            ) from error
    _drawer(task)


def render(
    task: AbstractEnvironment, policy: _Policy, path: Path, *, key: PRNGKeyArray
) -> None:
    """Draws one episode as a film of 640 by 480 pixels, without a display.

    MuJoCo draws through EGL when the environment variable `MUJOCO_GL` was set to
    `egl` before `mujoco` was imported. An environment of Gymnasium draws itself. A task
    in JAX draws itself if it has a method `draw(state, height, width)`, from one state
    to an array `(height, width, 3)` of bytes.

    Args:
        task: The task.
        policy: The policy.
        path: The `.webp`, `.gif` or `.mp4` file to write.
        key: Draws the start state.

    Raises:
        ValueError: As `check_film`.
        RuntimeError: If there is no way to draw here.
    """
    check_film(task, path)
    task, _ = split_outcome(task)
    pictures, seconds = _drawer(task)(task, policy, key=key)
    # Under another name first: the film is there whole or not at all.
    unfinished = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        if path.suffix == ".mp4":
            _write_video(unfinished, pictures, seconds)
        else:
            _write_pictures(unfinished, pictures, seconds)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_pictures(path: Path, pictures: Pictures, seconds: float) -> None:
    # Slow to import, and needed only here.
    from PIL import Image

    first, *others = (Image.fromarray(picture) for picture in pictures)
    options: dict[str, Any] = {"quality": 70} if path.suffix == ".webp" else {}
    first.save(
        path,
        save_all=True,
        append_images=others,
        duration=round(1000 * seconds),
        loop=0,
        **options,
    )


def _write_video(path: Path, pictures: Pictures, seconds: float) -> None:
    ffmpeg: Any = importlib.import_module("imageio_ffmpeg")
    height, width, _ = pictures[0].shape
    writer = ffmpeg.write_frames(
        str(path), (width, height), fps=1 / seconds, macro_block_size=2
    )
    writer.send(None)
    for picture in pictures:
        writer.send(np.ascontiguousarray(picture))
    writer.close()


def _drawer(task: AbstractEnvironment) -> Callable[..., tuple[Pictures, float]]:
    """What draws episodes of a task."""
    from applications.envs.adapters import GymnasiumEnvironment
    from applications.envs.mujoco import AbstractMujocoTask

    task, _ = split_outcome(task)
    if isinstance(task, AbstractMujocoTask):
        return _draw_mujoco
    if isinstance(task, GymnasiumEnvironment):
        return _draw_gymnasium
    if hasattr(task, "draw"):
        return _draw_itself
    raise ValueError(
        f"{type(task).__name__} cannot be drawn: it has neither a MuJoCo model nor a "
        "method draw(state, height, width)."
    )


def _draw_itself(
    task: Any, policy: _Policy, *, key: PRNGKeyArray
) -> tuple[Pictures, float]:
    """Pictures of an episode, and how many seconds each of them lasts."""
    act, step = _acting(task, policy), eqx.filter_jit(task.step)
    control_step = task.facts.control_step or 1 / _FRAMES_PER_SECOND
    every = max(1, round(1 / (_FRAMES_PER_SECOND * control_step)))
    state, pictures = task.reset(key=key), []
    for i in range(task.horizon):
        if i % every == 0:
            pictures.append(task.draw(state, _HEIGHT, _WIDTH))
        state, _, terminated = step(state, act(task.observe(state)))
        if terminated:
            break
    pictures.append(task.draw(state, _HEIGHT, _WIDTH))
    return pictures, every * control_step


def _draw_mujoco(
    task: Any, policy: _Policy, *, key: PRNGKeyArray
) -> tuple[Pictures, float]:
    """Pictures of an episode, and how many seconds each of them lasts."""
    from applications.envs._draw_mujoco import draw_mujoco
    from applications.envs.native import NativeTask

    model = task.definition.model()
    control_step = model.opt.timestep * task.definition.frame_skip
    every = max(1, round(1 / (_FRAMES_PER_SECOND * control_step)))
    positions = _positions(NativeTask(task.definition), policy, key=key)
    return draw_mujoco(model, positions[::every], _HEIGHT, _WIDTH), every * control_step


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
) -> tuple[Pictures, float]:
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
