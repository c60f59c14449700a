"""The curve of the home page, from the numbers of `epvf_cartpole.py`; no run anew.

python benchmarks/home_curve.py
"""

import json

import numpy as np
from _common import RESULTS

from applications.training import Curve, draw_comparison, summarise


_LINES = {"return_policy": "the policy", "return_perturbed_mean": "its perturbations"}


def main() -> None:
    runs = json.loads((RESULTS / "epvf_cartpole.json").read_text())["runs"]
    groups = {
        label: [
            Curve(
                np.array(run["env_steps"]),
                np.array(run["seconds"]),
                np.array(run[metric]),
            )
            for run in runs
        ]
        for metric, label in _LINES.items()
    }
    draw_comparison(
        [summarise(label, group, last=10) for label, group in groups.items()],
        "return_policy",
        RESULTS / "home_curve.png",
        title="python -m applications.epvf.train",
        panels="steps",
    )


if __name__ == "__main__":
    main()
