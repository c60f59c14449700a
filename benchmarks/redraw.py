"""Draws the pictures of the docs again, from their results; no run anew.

python benchmarks/redraw.py             all that can be drawn so
python benchmarks/redraw.py merging     one of them
"""

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

import home_curve
from _common import RESULTS, ROOT


def _of(module: str, function: str, *keys: str) -> Callable[[dict[str, Any]], Any]:
    """What calls a script's function with parts of its results."""

    def draw(content: dict[str, Any]) -> Any:
        script = importlib.import_module(module)
        return getattr(script, function)(*(content[key] for key in keys))

    return draw


def _dots(title: str) -> Callable[[dict[str, Any]], Any]:
    def draw(content: dict[str, Any]) -> Any:
        return importlib.import_module("_groups").draw_dots(content["table"], title)

    return draw


# Of each picture, how it comes of its results. What is not here needs more than these.
PICTURES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "adapters": _of("benchmarks.adapters", "_draw", "rows"),
    "crucial_states": _of("crucial_states", "draw", "rows"),
    "devices": _of("devices", "_figure", "measured", "projected"),
    "digits_value": _of("digits_value", "draw", "rows", "online"),
    "epvf_ablations": _dots("One choice changed at a time"),
    "epvf_ant": _of("epvf_ant", "_draw", "runs"),
    "epvf_cartpole": _of("epvf_cartpole", "_draw", "runs"),
    "epvf_cartpole_choices": _of("epvf_cartpole_choices", "_draw", "choices"),
    "epvf_cartpole_envs": lambda content: _of("epvf_cartpole_envs", "_draw", "result")(
        {"result": content}
    ),
    "epvf_choose": _of("epvf_choose", "_draw", "runs"),
    "epvf_outcomes": _dots("Outcomes of whole episodes"),
    "epvf_prediction": _of("epvf_prediction", "_draw", "rows"),
    "epvf_representations": _dots("What the critic reads"),
    "epvf_tasks": _of("epvf_tasks", "_draw", "runs"),
    "equal_cost": _of("equal_cost", "_draw", "runs"),
    "equivariant_linear": _of("_linear_figure", "draw", "cases"),
    "foreign_models": _of("benchmarks.foreign_models", "_draw", "rows"),
    "generator_cost": _of("generator_cost", "_figure", "costs", "starts"),
    "gogepo_ablations": _of("gogepo_ablations", "_draw", "runs"),
    "gogepo_kinds": _of("gogepo_kinds", "_draw", "runs"),
    "gogepo_presets": _of("gogepo_presets", "_draw", "runs"),
    "gogepo_quality": _of("gogepo_quality", "draw", "rows", "ends", "cells"),
    "gogepo_skills": _of("gogepo_skills", "_draw", "runs"),
    "gogepo_tasks": _of("gogepo_tasks", "_draw", "runs"),
    "gymnasium_tasks": _of("gymnasium_tasks", "_draw", "runs"),
    "low_rank_throughput": _of("low_rank_throughput", "_draw", "rows"),
    "match_weights": lambda content: _of("match_weights", "_draw", "rows", "trials")(
        content | {"trials": content["rows"][0]["trials"]}
    ),
    "merging": _of("benchmarks.merging", "_draw", "rows"),
    "offline_zoo": _of("benchmarks._zoo_figure", "draw", "table"),
    "pvf_encoders": _dots("What a critic of single steps reads"),
    "pvf_lqr": _of("pvf_lqr", "_draw", "runs"),
    "pvf_tasks": _of("pvf_tasks", "_draw", "runs"),
    "rollout_throughput": _of("rollout_throughput", "_figure", "rows"),
    "zero_shot": _of("zero_shot", "draw", "rows"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*PICTURES, "home_curve"])
    sys.path.append(str(ROOT))
    for name in parser.parse_args().names:
        if name == "home_curve":
            home_curve.main()
        else:
            content = json.loads((RESULTS / f"{name}.json").read_text())
            PICTURES[name](content).savefig(RESULTS / f"{name}.png", dpi=150)
        print(f"Drawn: docs/results/{name}.png")


if __name__ == "__main__":
    main()
