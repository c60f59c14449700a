"""Policies cloned from a teacher in a few states: those that V has learned, and others.

EPVF trains a teacher, and V is fitted to all that the run tried, with as few probing
states as are to be enough. Then new random policies are trained to answer as the
teacher does in these states, and in no others, and act. Controls with equally many
states: drawn at random within what was observed, start states, and states of the
teacher's own path.

    python benchmarks/crucial_states.py
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from _study import study_here
from _style import in_style, panels
from _teaching import explore, Explored, fit_value, new_policies
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from applications.policies import standardise
from applications.rollout import compile_rollout


# By task: how many states, and settings of the run other than `EXPLORER`'s.
TASKS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {"cartpole": ((3, 16), {})}
_STATES = ("learned by V", "random", "starts", "the teacher's path")
_NEW, _EPISODES, _UPDATES = 5, 10, 3000


def main() -> None:
    study_here(
        "crucial_states",
        "crucial-states",
        __doc__,
        list(TASKS),
        _one_run,
        _table,
        draw,
        seeds=3,
    )


def _one_run(task: str, seed: int) -> list[dict[str, Any]]:
    counts, changes = TASKS[task]
    explored = explore(task, changes, seed)
    view, own = explored.search.view, explored.weights
    teacher: Any = view.to_policy(own)
    taught = float(explored.returns_of(view, own[None], 20, seed=seed)[0])
    starts, path = _visited(explored, seed)
    random = np.random.default_rng(seed)
    low, high = np.percentile(path, [1, 99], axis=0)
    rows = []
    for count in counts:
        judge = fit_value(explored, count, seed=seed)
        pick = lambda seen, count=count: seen[random.choice(len(seen), count, False)]
        encoder: Any = judge.value.encoder
        states = {
            "learned by V": encoder.probes,
            "random": random.uniform(low, high, (count, path.shape[1])),
            "starts": pick(starts),
            "the teacher's path": pick(path),
        }
        for name in _STATES:
            shown = jnp.asarray(states[name], jnp.float32)
            students, weights = new_policies(
                explored, explored.search.config.hidden, _NEW, seed=200 + seed
            )
            clones, loss = _clone(students, weights, teacher, shown)
            returns = explored.returns_of(students, clones, _EPISODES, seed=seed)
            rows.append(
                {
                    "task": task,
                    "seed": seed,
                    "teacher": taught,
                    "count": count,
                    "states": name,
                    "returns": [float(f"{x:.4g}") for x in returns],
                    "loss": float(f"{np.max(loss):.2g}"),
                    "at": np.round(np.asarray(shown), 3).tolist(),
                }
            )
            print({key: value for key, value in rows[-1].items() if key != "at"})
    return rows


def _visited(explored: Explored, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Start states, and states of the teacher's path, as policies are shown them."""
    view, seen = explored.search.view, explored.observations
    acting: Any = lambda weights: view.to_policy(weights)
    if seen is not None:
        own = explored.search.fold_normalisation(explored.weights[None], seen)
    else:
        own = explored.weights[None]
    run = compile_rollout(explored.search.task, acting, episodes=50, visits=64)
    episodes = run(own, key=jr.key(seed))
    assert episodes.visits is not None
    path = episodes.visits.observation[episodes.visits.there]
    both = (episodes.start[0], path)
    shown = both if seen is None else (standardise(states, seen) for states in both)
    starts, path = map(np.asarray, shown)
    return starts, path


def _clone(
    view: Any,
    weights: Float[Array, "policies weights"],
    teacher: Any,
    states: Float[Array, "states observation"],
) -> tuple[Float[Array, "policies weights"], np.ndarray]:
    """Policies that answer as a teacher does in some states, and what is missing."""
    answers = jax.vmap(teacher)(states)
    optimiser = optax.adam(1e-2)

    def loss_of(weights: Array) -> Array:
        policy: Any = view.to_policy(weights)
        return jnp.mean(jnp.square(jax.vmap(policy)(states) - answers))

    @eqx.filter_jit
    def train(weights: Array) -> Any:
        def update(carry: Any, _: None) -> Any:
            weights, state = carry
            change, state = optimiser.update(jax.grad(loss_of)(weights), state)
            return (optax.apply_updates(weights, change), state), None

        def of_one(weights: Array) -> Any:
            carry = (weights, optimiser.init(weights))
            (weights, _), _ = jax.lax.scan(update, carry, length=_UPDATES)
            return weights, loss_of(weights)

        return jax.vmap(of_one)(weights)

    clones, loss = train(weights)
    return clones, np.asarray(loss)


def _table(rows: list[dict[str, Any]]) -> str:
    """One line a task and number of states."""
    lines = [
        f"| Task | Teachers | States | {' | '.join(_STATES)} |",
        f"|---|---|---|{'---|' * len(_STATES)}",
    ]
    for task, count in dict.fromkeys((row["task"], row["count"]) for row in rows):
        mine = [row for row in rows if (row["task"], row["count"]) == (task, count)]
        teachers = list({row["seed"]: row["teacher"] for row in mine}.values())
        cells = []
        for name in _STATES:
            returns = [
                x for row in mine if row["states"] == name for x in row["returns"]
            ]
            low, middle, high = np.percentile(returns, [25, 50, 75])
            cells.append(f"{middle:.0f} ({low:.0f} to {high:.0f})")
        lines.append(
            f"| {task} | {', '.join(f'{x:.0f}' for x in teachers)} | {count} | "
            f"{' | '.join(cells)} |"
        )
    return "\n".join(lines)


def _returns(rows: list[dict[str, Any]], name: str) -> list[float]:
    """Of all clones by one choice of states."""
    return [x for row in rows if row["states"] == name for x in row["returns"]]


@in_style()
def draw(rows: list[dict[str, Any]]) -> Figure:
    """Returns of all clones, a panel a task and number of states."""
    places = list(dict.fromkeys((row["task"], row["count"]) for row in rows))
    figure, grid = panels(len(places), 2, 2.0, sharey=True)
    for axes, (task, count) in zip(grid, places, strict=True):
        mine = [row for row in rows if (row["task"], row["count"]) == (task, count)]
        for i, name in enumerate(_STATES):
            returns = [
                x for row in mine if row["states"] == name for x in row["returns"]
            ]
            spread = np.linspace(-0.25, 0.25, len(returns))
            color = "tab:blue" if name.startswith("learned") else "0.5"
            axes.plot(returns, i + spread, "o", ms=3, color=color)
            axes.plot([np.median(returns)] * 2, [i - 0.4, i + 0.4], color="black")
        for teacher in {row["teacher"] for row in mine}:
            axes.axvline(teacher, color="black", linestyle=":", linewidth=1)
        axes.set(title=f"{task}, {count} states", xlabel="return of the clones")
        axes.grid(axis="y", visible=False)
    grid[0].set_yticks(range(len(_STATES)), _STATES)
    grid[0].invert_yaxis()
    return figure


if __name__ == "__main__":
    main()
