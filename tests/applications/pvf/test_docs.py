"""The page names every flag with its default in every preset, and every metric."""

import dataclasses
import re
from pathlib import Path

import equinox as eqx
import jax.random as jr
import numpy as np

from applications.pvf import Config
from applications.pvf.config import PRESETS
from applications.pvf.train import COMMAND_LINE
from applications.rollout import engine_for
from tests.applications.pvf.helpers import small


PAGE = (Path(__file__).parents[3] / "docs" / "pvf.md").read_text()
_OF_THE_LOOP = {
    *("iteration", "steps_per_second", "compile_seconds", "seconds"),
    "return_policy",
}


def _shown(name, value) -> str:
    if value is None:
        return "a batch" if name == "policy_states" else "all"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return str(value)


def _tables() -> list[dict[str, list[str]]]:
    section = PAGE.split("\n## Flags\n")[1].split("\n## ")[0]
    tables = []
    for part in section.split("Of these the presets change:"):
        lines = re.findall(r"^\| `--([\w-]+)` \|(.*)\|$", part, re.M)
        tables.append(
            {
                name.replace("-", "_"): [cell.strip() for cell in cells.split("|")]
                for name, cells in lines
            }
        )
    return tables


def test_every_flag_with_its_default():
    own, of_presets = _tables()
    defaults = {
        field.name.rstrip("_"): field.default for field in dataclasses.fields(Config)
    }
    assert own.keys() == defaults.keys() | {"preset"}
    assert own["preset"][0] == next(iter(PRESETS))
    for name, default in defaults.items():
        assert own[name][0] == _shown(name, default), name
    for field in dataclasses.fields(Config):
        values = [getattr(preset, field.name) for preset in PRESETS.values()]
        name = field.name.rstrip("_")
        assert (len(set(values)) > 1) == (name in of_presets)
        if name in of_presets:
            assert of_presets[name] == [_shown(name, value) for value in values]


def test_the_defaults_of_the_command():
    settings = COMMAND_LINE.parse([])
    assert settings.task.env == "swimmer" and settings.launch.checkpoint_every == 5
    assert "`--env` is swimmer, `--checkpoint-every` 5" in PAGE
    tasks = [each.task.env for each in COMMAND_LINE.choices.values()]
    assert tasks == ["swimmer", "swimmer", "mountain_car_continuous", "cartpole"]


def test_every_metric():
    search = small(
        policy_kind="stochastic",
        policy_gradient="likelihood-ratio",
        representation="flat",
    )
    state = search.begin(key=jr.key(0))
    unroll = engine_for(search.task).compile_unroll(search.make_actor, steps=6)
    actors = search.before_round(state)
    unrolled, _ = unroll(actors.population, np.arange(4), state.environments)
    _, metrics = eqx.filter_eval_shape(
        lambda *arguments: search.after_round(*arguments), state, actors, unrolled
    )
    section = PAGE.split("\n## Metrics\n")[1].split("\n## ")[0]
    assert set(re.findall(r"`(\w+)`", section)) == metrics.keys() | _OF_THE_LOOP
