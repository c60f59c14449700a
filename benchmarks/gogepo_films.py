"""One generator, commanded five returns: the same task, side by side.

    python benchmarks/gogepo_films.py RUN

RUN is a directory of `python -m applications.gogepo.train`. The commands go evenly from
the least to the best outcome of the run. The film is named after its task. The JSON has
the settings of the run, and what each command gave in ten episodes.
"""

import argparse
import math
import os
from pathlib import Path


# Asks MuJoCo, before its import, for a context that needs no display.
os.environ.setdefault("MUJOCO_GL", "egl")

import jax.numpy as jnp
from _common import RESULTS
from _films import frames_of, save_film
from PIL import Image, ImageDraw, ImageEnhance

from applications.envs import make
from applications.gogepo._runs import last_snapshot, open_run
from applications.rollout import evaluate
from applications.training import key_for, Purpose, write_json


_COMMANDS, _EPISODES = 5, 10
_SIZE, _CAPTION = (220, 165), 34
_LENGTH = 5.0
# Of so many frames one is shown.
_EVERY = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN")
    opened = open_run(parser.parse_args().run)
    algorithm, settings = opened.search, opened.run.manifest.settings
    model, name = last_snapshot(opened), opened.run.manifest.settings["env"]
    control_step = algorithm.task.facts.control_step
    assert control_step is not None, "a task whose steps have no length in time"
    shown = make(name, horizon=math.ceil(_LENGTH / control_step))
    rows, films, duration = [], [], 40
    for command in model.outcomes.between(_COMMANDS):
        policy = algorithm.write(model, command)
        key = key_for(0, Purpose.EVALUATE)
        episodes = evaluate(algorithm.task, policy, _EPISODES, key=key)
        did = algorithm.commands.measure(episodes)[:, 0]
        rows.append(
            {
                "commanded": command[0].item(),
                "achieved": jnp.mean(did).item(),
                "episodes": did.tolist(),
            }
        )
        frames, duration = frames_of(shown, policy, _SIZE, length=_LENGTH)
        films.append(frames)
        print({k: v for k, v in rows[-1].items() if k != "episodes"}, flush=True)
    path = RESULTS / f"film_gogepo_{name}.webp"
    save_film(_side_by_side(films, rows)[::_EVERY], path, _EVERY * duration)
    kept = {k: v for k, v in settings.items() if k not in ("run_dir", "resume")}
    write_json(
        RESULTS / "gogepo_films.json",
        {
            "command": "python benchmarks/gogepo_films.py RUN",
            "software": opened.run.manifest.software,
            "settings": kept,
            "films": {name: rows},
        },
    )


def _side_by_side(
    films: list[list[Image.Image]], rows: list[dict[str, float]]
) -> list[Image.Image]:
    width, height = _SIZE
    pictures = []
    for at in range(max(map(len, films))):
        picture = Image.new("RGB", (width * len(films), height + _CAPTION), "white")
        draw = ImageDraw.Draw(picture)
        for i, (frames, row) in enumerate(zip(films, rows, strict=True)):
            frame = frames[min(at, len(frames) - 1)]
            if at >= len(frames):  # The episode has ended.
                frame = ImageEnhance.Brightness(frame).enhance(0.5)
            picture.paste(frame, (i * width, _CAPTION))
            told = f"commanded {row['commanded']:,.0f}\nachieved {row['achieved']:,.0f}"
            draw.text((i * width + 6, 3), told, fill="black", font_size=12)
        pictures.append(picture)
    return pictures


if __name__ == "__main__":
    main()
