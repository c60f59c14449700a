"""Choosing one of 10,000 given policies with 100 episodes.

The policies are clouds of perturbations around snapshots of a run of the default
recipe. `applications.values.choose` fits V(θ) to the episodes so far and asks for those
with the largest upper confidence bound; beside it stand the best of 100 drawn at
random, and successive halving, which gives its better half another episode each. Each
starts from a draw of its own. The score is the true return of the policy that was
chosen, over many fresh episodes.

    python benchmarks/epvf_choose.py
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _common import as_table, fill, write
from _style import in_style, panels
from matplotlib.figure import Figure

from applications.envs import make
from applications.epvf.algorithm import EPVF
from applications.epvf.config import Config
from applications.rollout import compile_rollout
from applications.values import answers, choose


_FIRST = 10
_BATCH = 10
# Of the first episodes each hands back so many observations, which V's answers are at.
_VISITS = 10
_TITLES = {
    "v": "V(θ) + 2 deviations",
    "v_less": "V(θ) + 1 deviation",
    "v_mean": "V(θ) alone",
    "random": "best of 100 at random",
    "halving": "successive halving",
}
_OPTIMISM = {"v": 2.0, "v_less": 1.0, "v_mean": 0.0}
Evaluate = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="half_cheetah")
    parser.add_argument("--outcome", default="reward")
    parser.add_argument("--horizon", type=int)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--policies", type=int, default=10_000)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--episodes", type=int, default=50, help="of the score")
    parser.add_argument(
        "--snapshots", type=int, nargs="*", default=[0, 10, 20, 30, 40], help="when"
    )
    parser.add_argument(
        "--noise-scales",
        type=float,
        nargs="*",
        default=[0.1, 0.3],
        help="of the clouds",
    )
    parser.add_argument("--dry", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.seeds):
        rows += _one_seed(arguments, seed)
    table = _table(rows)
    print(table)
    if arguments.dry:
        return
    fill("whole_episodes.md", "choose", table)
    command = "python benchmarks/epvf_choose.py"
    write("epvf_choose", command, {"runs": rows}, _draw(rows))


def _one_seed(arguments: Any, seed: int) -> list[dict[str, Any]]:
    task = make(
        arguments.task,
        physics="mujoco",
        outcome=arguments.outcome,
        horizon=arguments.horizon,
    )
    search = EPVF(task, Config(iterations=max(arguments.snapshots) + 1))
    policies = _clouds(search, arguments, seed)
    options = {"episodes": 1, "visits": _VISITS}
    run = compile_rollout(task, search.view.to_policy, **options)
    key = jr.key(1000 + seed)
    budget, count = arguments.evaluations, len(policies)

    def by(method: str) -> tuple[int, float]:
        """What a method chooses, and how many seconds that takes."""
        own, begin = jr.fold_in(key, list(_TITLES).index(method)), time.perf_counter()
        used = 0

        def episodes(numbers: np.ndarray) -> Any:
            nonlocal used
            used += len(numbers)
            episodes_key = jr.fold_in(own, used)
            return run(policies[jnp.asarray(numbers)], key=episodes_key)

        random = np.random.default_rng([seed, list(_TITLES).index(method)])
        evaluate = lambda numbers: np.asarray(episodes(numbers).total_reward[:, 0])
        if method == "random":
            best = _at_random(count, budget, evaluate, random)
        elif method == "halving":
            best = _halving(count, budget, evaluate, random)
        else:
            first = random.choice(count, _FIRST, replace=False)
            found = episodes(first)
            best = choose(
                answers(
                    task,
                    search.view.to_policy,
                    policies,
                    found.visits.observation[found.visits.there],
                ),
                evaluate,
                tried=first,
                returns=np.asarray(found.total_reward[:, 0]),
                evaluations=budget - _FIRST,
                batch=_BATCH,
                optimism=_OPTIMISM[method],
            ).best
        assert used == budget
        return best, time.perf_counter() - begin

    judge = compile_rollout(task, search.view.to_policy, episodes=arguments.episodes)
    rows = []
    for method in _TITLES:
        best, seconds = by(method)
        score = judge(policies[best][None], key=jr.fold_in(key, 99)).total_reward
        rows.append(
            {
                "seed": seed,
                "method": method,
                "score": float(score.mean()),
                "seconds": round(seconds, 1),
            }
        )
        print(rows[-1], flush=True)
    return rows


def _clouds(search: EPVF, arguments: Any, seed: int) -> jax.Array:
    """The policies, `(policies, weights)`."""
    state = search.init(key=jr.key(seed))
    step, parts = search.compile(state), []
    clouds = len(arguments.snapshots) * len(arguments.noise_scales)
    each = -(-arguments.policies // clouds)
    random = np.random.default_rng(seed)
    for iteration in range(max(arguments.snapshots) + 1):
        for scale in arguments.noise_scales if iteration in arguments.snapshots else ():
            centre = state.learned.policies[0]
            noise = scale * random.standard_normal((each, centre.size))
            around = centre + jnp.asarray(noise, jnp.float32)
            # As they would act.
            parts.append(search.fold_normalisation(around, state.observations))
        state, _ = step(state)
    return jnp.concatenate(parts)[: arguments.policies]


def _at_random(
    count: int, budget: int, evaluate: Evaluate, random: np.random.Generator
) -> int:
    drawn = random.choice(count, budget, replace=False)
    return int(drawn[np.argmax(evaluate(drawn))])


def _halving(
    count: int, budget: int, evaluate: Evaluate, random: np.random.Generator
) -> int:
    """Half of the evaluations for the first round, then half of what is left."""
    alive = random.choice(count, max(budget // 2, 1), replace=False)
    sums, rounds = np.zeros(len(alive)), 0
    while budget > 0:
        alive, sums = alive[:budget], sums[:budget]
        sums = sums + evaluate(alive)
        budget, rounds = budget - len(alive), rounds + 1
        order = np.argsort(-sums)[: max(-(-budget // 2), 1)]
        if budget:
            alive, sums = alive[order], sums[order]
    return int(alive[np.argmax(sums)])


def _table(rows: list[dict[str, Any]]) -> str:
    lines = []
    for method, title in _TITLES.items():
        scores = [row["score"] for row in rows if row["method"] == method]
        told = ", ".join(f"{score:.0f}" for score in scores)
        lines.append([title, told, f"{np.mean(scores):.0f}"])
    return as_table(["by", "returns of what was chosen, by seed", "mean"], lines)


@in_style()
def _draw(rows: list[dict[str, Any]]) -> Figure:
    """A line a method; a colour is a seed, whose policies are the same for all."""
    figure, (axes,) = panels(1, 1, 2.4)
    for place, method in enumerate(_TITLES):
        mine = [row for row in rows if row["method"] == method]
        for row in mine:
            axes.plot(row["score"], place, "o", ms=5, color=f"C{row['seed']}")
        axes.plot(np.mean([row["score"] for row in mine]), place, "k|", ms=14)
    axes.set_yticks(range(len(_TITLES)), list(_TITLES.values()))
    axes.invert_yaxis()
    axes.set_xlabel("return of the chosen policy; a colour is a seed")
    return figure


if __name__ == "__main__":
    main()
