"""Short, small films of the policies of runs, for the home page.

    python benchmarks/home_films.py RUN RUN RUN

Each RUN is a directory of `python -m applications.epvf.train`. The film is named after
its task. The JSON has the settings of each run and the mean return of its policy.
"""

import argparse
import json
import math
import os
from pathlib import Path


# Asks MuJoCo, before its import, for a context that needs no display.
os.environ.setdefault("MUJOCO_GL", "egl")

from _common import RESULTS
from _films import frames_of, save_film

from applications.envs import make
from applications.training import open_policy, Run, write_json


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
    frames, duration = frames_of(task, policy, _SIZE, start=_START, length=_LENGTH)
    save_film(frames, path, duration)


if __name__ == "__main__":
    main()
