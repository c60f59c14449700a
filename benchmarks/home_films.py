"""Short, small films of the policies of runs, for the home page.

    python benchmarks/home_films.py RUN RUN RUN

Each RUN is a directory of `python -m applications.epvf.train`. The film is named after
its task. The JSON has the settings of each run and the mean return of its policy.
"""

import argparse
import json
import math
import os
import tempfile
from pathlib import Path


# Asks MuJoCo, before its import, for a context that needs no display.
os.environ.setdefault("MUJOCO_GL", "egl")

from _common import RESULTS
from PIL import Image, ImageSequence

from applications.envs import make, render
from applications.training import key_for, open_policy, Purpose, Run, write_json


_SIZE = (320, 240)
# From when on and for how long, in seconds.
_START, _LENGTH = 1.0, 3.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    path = RESULTS / "home_films.json"
    films = json.loads(path.read_text())["films"] if path.exists() else {}
    for directory in parser.parse_args().runs:
        run = Run(directory)
        name = run.manifest.settings["env"]
        films[name] = {
            "algorithm": run.manifest.algorithm,
            "mean_return": json.loads(run.evaluation.read_text())["mean"],
            "software": run.manifest.software,
            "settings": {
                setting: value
                for setting, value in run.manifest.settings.items()
                if setting not in ("run_dir", "resume")
            },
        }
        _write_film(directory, RESULTS / f"film_{name}.webp")
        # Films of other tasks stay.
        command = "python benchmarks/home_films.py RUN ..."
        write_json(path, {"command": command, "films": films})


def _write_film(directory: Path, path: Path) -> None:
    task, policy = open_policy(directory)
    # No more is drawn than is shown.
    control_step = task.facts.control_step
    assert control_step is not None, "a task whose steps have no length in time"
    steps = math.ceil((_START + _LENGTH) / control_step)
    task = make(Run(directory).manifest.settings["env"], horizon=steps)
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole.webp"
        render(task, policy, whole, key=key_for(0, Purpose.RENDER))
        with Image.open(whole) as film:
            frames, seconds, duration = [], 0.0, 40
            for frame in ImageSequence.Iterator(film):
                if _START <= seconds < _START + _LENGTH:
                    frames.append(frame.convert("RGB").resize(_SIZE))
                duration = frame.info.get("duration", duration)
                seconds += duration / 1000
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


if __name__ == "__main__":
    main()
