"""Small films for the docs: frames of an episode, and a file of frames."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageSequence

from applications.envs import AbstractEnvironment, render
from applications.training import key_for, Purpose


def frames_of(
    task: AbstractEnvironment,
    policy: Callable[..., Any],
    size: tuple[int, int],
    *,
    start: float = 0.0,
    length: float,
) -> tuple[list[Image.Image], int]:
    """Draws a part of one episode.

    Args:
        task: The task, whose horizon is no longer than what is to be drawn.
        policy: The policy.
        size: Width and height in pixels.
        start: Where the part begins, in seconds.
        length: How long it is, in seconds. It is shorter if the episode ends.

    Returns:
        The frames, and how long each is shown, in milliseconds.
    """
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole.webp"
        render(task, policy, whole, key=key_for(0, Purpose.RENDER))
        with Image.open(whole) as film:
            frames, seconds, duration = [], 0.0, 40
            for frame in ImageSequence.Iterator(film):
                if start <= seconds < start + length:
                    frames.append(frame.convert("RGB").resize(size))
                duration = int(frame.info.get("duration", duration))
                seconds += duration / 1000
    return frames, duration


def save_film(frames: Sequence[Image.Image], path: Path, duration: int) -> None:
    """Writes frames as an animated WebP that begins again at its end.

    Args:
        frames: The frames.
        path: The file.
        duration: How long each is shown, in milliseconds.
    """
    first, *others = frames
    first.save(
        path,
        save_all=True,
        append_images=others,
        duration=duration,
        loop=0,
        quality=45,
        method=6,
    )
