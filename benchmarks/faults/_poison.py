"""One simulation in a population that is poisoned: the others must not notice."""

import importlib
import json
import random
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from applications.policies import RunningStatistics
from applications.rollout import compile_rollout
from benchmarks.faults._flags import search_of
from benchmarks.faults._forks import start, wait
from benchmarks.faults._tally import Tally


_POISONS = (np.nan, np.inf, -np.inf, 3e38, 1e30)
_TASKS = {"JAX": "lqr", "C": "inverted_pendulum"}
_FLAGS = "--num-envs 8 --horizon 20 --eval-episodes 2 --physics mujoco --env"
ALGORITHMS = {
    "epvf": ("applications.epvf.train", "--preset paper --normalise"),
    "gogepo": ("applications.gogepo.train", "--batch-size 8"),
    "ars": ("applications.baselines.train", "--algorithm ars --top 2"),
}


def poisoned(algorithm: str, engine: str, count: int, work: Path, seed: int) -> Tally:
    """Breaks one policy of an iteration's population, again and again.

    Args:
        algorithm: Whose population it is.
        engine: `JAX` or `C`.
        count: How often.
        work: An empty directory.
        seed: Seed of what is broken.

    Returns:
        The tally. Bad is another bit in the episodes of the others, or in the
        statistics that are made of them.
    """
    found = work / "found.json"
    action = lambda: _poison(algorithm, engine, count, seed, found)
    code = wait(start(action, work / "poison.log"), seconds=24 * 3600.0)
    tally = Tally(f"a poisoned policy of {algorithm}, engine in {engine}", count)
    if code:
        tally.bad.append(f"the process ended with {code}: {work / 'poison.log'}")
    else:
        result = json.loads(found.read_text())
        tally.bad, tally.note = result["bad"], f"{result['broke']} episodes broke"
    return tally


def _poison(algorithm: str, engine: str, count: int, seed: int, found: Path) -> int:
    module, flags = ALGORITHMS[algorithm]
    command_line = importlib.import_module(module).COMMAND_LINE
    settings = command_line.parse([*flags.split(), *_FLAGS.split(), _TASKS[engine]])
    search = search_of(settings)(
        settings.task.make(as_trained=True), settings.algorithm
    )
    state = search.init(key=jr.key(seed))
    trial = search.before_rollout(state)
    run = compile_rollout(search.task, search.view.to_policy, episodes=2)
    sound = run(trial.acting, key=trial.key)
    moments, bad, broke = random.Random(seed), [], 0
    empty = RunningStatistics.empty(search.task.observation_size)

    def statistics(episodes, rows):
        joined = empty.join(jax.tree.map(lambda x: x[rows], episodes.observations))
        return jax.tree.map(np.asarray, joined)

    for _ in range(count):
        row = moments.randrange(len(trial.acting))
        weight, number = (
            moments.randrange(trial.acting.shape[1]),
            moments.choice(_POISONS),
        )
        at = (row,) if moments.random() < 0.5 else (row, weight)
        spoilt = run(trial.acting.at[at].set(number), key=trial.key)
        others = np.delete(np.arange(len(trial.acting)), row)
        broke += int((~spoilt.valid[row]).sum())
        pairs = zip(jax.tree.leaves(spoilt), jax.tree.leaves(sound), strict=True)
        same = all(np.array_equal(x[others], y[others]) for x, y in pairs)
        if not spoilt.valid[row].any():
            whole = statistics(spoilt, np.arange(len(trial.acting)))
            alone = statistics(spoilt, others)
            same &= jax.tree.all(jax.tree.map(np.array_equal, whole, alone))
        finite = jax.tree.map(lambda x: np.isfinite(x).all(), spoilt.observations)
        if not same or not jax.tree.all(finite):
            bad.append(f"{at}: {number}")
    assert jnp.all(sound.valid)
    found.write_text(json.dumps({"bad": bad, "broke": broke}))
    return 0
