"""Which critic on which input predicts how fresh perturbations will do.

One run of the default recipe is logged: what was tried, and how it went. Then every
critic learns from the same batches, one after the other, and before each says what it
expects of the next one. Nothing but the critic differs, so that a table of correlations
compares critics alone.

    python benchmarks/epvf_prediction.py
"""

import argparse
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from _common import as_table, fill, write
from _style import in_style
from matplotlib.figure import Figure

from applications.envs import make
from applications.epvf.algorithm import EPVF
from applications.epvf.config import Config, PRESETS
from applications.rollout import engine_for, RolloutOptions


_TASKS = ("half_cheetah", "ant_servo")
_SEED = 100
# The linear policies of docs/learning.md; few policies watched: nothing reads them.
_RECIPE = Config(hidden=(), normalise=True, eval_episodes=1)
_PAPER = dataclasses.replace(
    PRESETS["paper"],
    hidden=(),
    normalise=True,
    eval_episodes=1,
    num_envs=_RECIPE.num_envs,
    archive=_RECIPE.archive,
)


def _recipe(**changes: Any) -> Config:
    return dataclasses.replace(_RECIPE, **changes)


def _perceptron(**changes: Any) -> Config:
    return _recipe(critic="perceptron", critic_start="anew", **changes)


CRITICS = {
    "paper: perceptron on weights, standardised returns": _PAPER,
    "perceptron on weights, ranks": dataclasses.replace(_PAPER, targets="rank"),
    "perceptron on z": _recipe(critic="perceptron", representation="flat"),
    "perceptron on z, drawn anew, 100 updates": _perceptron(
        representation="flat", critic_updates=100
    ),
    "five perceptrons on z": _recipe(
        critic="perceptron", representation="flat", ensemble=5
    ),
    "perceptron on learned probes": _recipe(
        critic="perceptron", representation="probing"
    ),
    "perceptron on answers, drawn anew, 100 updates": _perceptron(critic_updates=100),
    "kernel on z": _recipe(representation="flat"),
    "kernel on answers": _RECIPE,
    "kernel on answers, leave-one-out": _recipe(kernel_scale=None, kernel_noise=None),
    "kernel on answers, standardised returns": _recipe(targets="standard"),
    "kernel on answers, archive of 4": _recipe(archive=4),
    "kernel on answers, 16 states": _recipe(num_states=16),
    "kernel on answers and z": _recipe(representation="answers+flat"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=list(_TASKS), choices=_TASKS)
    parser.add_argument("--iterations", type=int, default=80)
    arguments = parser.parse_args()
    rows = []
    for task in arguments.tasks:
        log = _log(task, arguments.iterations)
        for name, config in CRITICS.items():
            found = _replay(task, config, log)
            rows.append({"task": task, "critic": name, **found})
            print(rows[-1], flush=True)
    fill("learning.md", "prediction", _table(rows))
    command = "python benchmarks/epvf_prediction.py"
    write("epvf_prediction", command, {"rows": rows}, _draw(rows))


def _log(task_name: str, iterations: int) -> list[Any]:
    """Policies, statistics, what was tried and how it went, of each iteration."""
    search = _search(task_name, dataclasses.replace(_RECIPE, iterations=iterations))
    state = search.init(key=jr.key(_SEED))
    kept: list[Any] = []

    def learn(state: Any, trial: Any, episodes: Any) -> Any:
        after, metrics = search.after_rollout(state, trial, episodes)
        logged = (state.learned.policies, state.observations, trial, episodes)
        return after, metrics | {"log": logged}

    step = engine_for(search.task).compile_iteration(
        search.before_rollout,
        learn,
        search.view.to_policy,
        state,
        RolloutOptions(visits=_RECIPE.visits),
    )
    for number in range(iterations):
        state, metrics = step(state)
        kept.append(metrics["log"])
        print(f"{task_name} {number + 1}/{iterations}: {metrics['return_policy']:.0f}")
    return kept


def _replay(task_name: str, config: Config, log: list[Any]) -> dict[str, float]:
    """What a critic that learns from logged batches said of the next ones."""
    search = _search(task_name, dataclasses.replace(config, iterations=len(log)))
    state = search.init(key=jr.key(0))

    @eqx.filter_jit
    def learn(state: Any, logged: Any) -> Any:
        policies, observations, trial, episodes = logged
        where = lambda state: (state.learned.policies, state.observations)
        state = eqx.tree_at(where, state, (policies, observations))
        value, candidates = state.learned.critic.value, trial.proposal.candidates
        said = jax.vmap(lambda w: value(search.view.to_policy(w)))(candidates)
        after, _ = search.after_rollout(state, trial, episodes)
        return after, said, episodes.total_reward[: len(candidates), 0]

    whole, odd = [], []
    for logged in log:
        state, said, did = learn(state, logged)
        said, did = np.asarray(said), np.asarray(did)
        if np.ptp(said) > 0:
            whole.append(np.corrcoef(said, did)[0, 1])
            # Of antithetic pairs, what is not the slope falls out.
            odd.append(np.corrcoef(said[::2] - said[1::2], did[::2] - did[1::2])[0, 1])
    half = len(log) // 2
    return {
        "correlation": float(np.median(whole)),
        "second_half": float(np.median(whole[-half:])),
        "of_differences": float(np.median(odd)),
    }


def _search(task_name: str, config: Config) -> EPVF:
    return EPVF(make(task_name, physics="mujoco"), config)


def _table(rows: list[dict[str, Any]]) -> str:
    titles = ["task", "critic", "correlation", "second half", "of pairs' differences"]
    names = ("correlation", "second_half", "of_differences")
    lines = [
        [f"`{row['task']}`", row["critic"], *(f"{row[name]:.2f}" for name in names)]
        for row in rows
    ]
    return as_table(titles, lines)


@in_style()
def _draw(rows: list[dict[str, Any]]) -> Figure:
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure = Figure(figsize=(8, 0.4 * len(CRITICS) + 1), layout="constrained")
    axes = figure.subplots()
    names = list(CRITICS)[::-1]
    for shift, task in enumerate(tasks):
        mine = {row["critic"]: row for row in rows if row["task"] == task}
        places = np.arange(len(names)) + 0.35 * (shift - (len(tasks) - 1) / 2)
        values = [mine[name]["correlation"] for name in names]
        axes.barh(places, values, height=0.33, label=task)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("correlation with the returns of fresh perturbations (median)")
    axes.axvline(0, color="gray", linewidth=0.8)
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
