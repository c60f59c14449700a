"""What V knows of all policies of LQR, while a run goes on.

PSSVF on a system of one state and a policy of two numbers, weight and bias, so that the
true return of every policy can be drawn, and V beside it: after few episodes V is right
near the policies that were tried, later everywhere. Returns span three decades; they
are shown, and compared, as -log(-J).

    python benchmarks/pvf_landscape.py
"""

import argparse
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib
import numpy as np
from _common import fill, RESULTS, write
from jaxtyping import Array, Float
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure

from applications.envs import make
from applications.pvf import PSSVF
from applications.pvf.config import Config


_WEIGHTS, _BIASES, _POINTS = (-3.0, 3.0), (-2.0, 2.0), 61
_STAGES = (10, 50, 200, 1000)
_RECORDED = ("noise_scale", "seed", "at", "returns", "correlations")
_FRAMES = (*range(1, 20), *range(20, 100, 5), *range(100, 1001, 50))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    truth = true_returns(grid())
    runs = [
        _one_run(seed, scale, truth)
        for scale in (1.0, 0.5)
        for seed in range(arguments.seeds)
    ]
    rows = [
        {
            key: run[key]
            for key in ("noise_scale", "seed", "at", "returns", "correlations")
        }
        for run in runs
    ]
    table = _table(rows)
    print(table)
    if arguments.dry:
        return
    write(
        "pvf_landscape",
        "python benchmarks/pvf_landscape.py",
        {"rows": rows},
        _draw(runs[0], truth),
    )
    _animate(runs[0], truth)
    fill("experiments.md", "lqr", table)


def grid() -> Float[np.ndarray, "policies 2"]:
    """Policies (weight, bias), row by row of the picture."""
    weight, bias = np.meshgrid(
        np.linspace(*_WEIGHTS, _POINTS), np.linspace(*_BIASES, _POINTS)
    )
    return np.stack([weight.ravel(), bias.ravel()], axis=1)


def true_returns(policies: Float[np.ndarray, "policies 2"]) -> np.ndarray:
    """Returns of policies a = w s + b from the state 1, step by step."""
    task: Any = make("lqr")
    state, total = np.ones(len(policies)), np.zeros(len(policies))
    for _ in range(task.horizon):
        action = np.clip(policies[:, 0] * state + policies[:, 1], -4, 4)
        total -= state**2 + action**2
        state = np.clip(state + action, -2, 2)
    return total


def _one_run(seed: int, scale: float, truth: np.ndarray) -> dict[str, Any]:
    config = Config(
        critic="pssvf",
        representation="flat",
        inputs="raw",
        policy="_linear:Linear",
        num_envs=1,
        steps=50_000,
        noise_scale=scale,
        normalise=False,
        replay=1000,
        batch_segments=16,
        critic_width=64,
        critic_updates=10,
        policy_updates=10,
        critic_lr=1e-3,
        policy_lr=1e-2,
        policy_lr_schedule="linear",
        eval_episodes=1,
    )
    search = PSSVF(make("lqr"), config)
    state = search.begin(key=jr.key(seed))
    step = search.compile(state)
    policies = jnp.asarray(grid(), jnp.float32)

    @eqx.filter_jit
    def values(value: Any, policies: Array) -> Array:
        return jax.vmap(lambda row: value(search.view.to_policy(row)))(policies)

    kept, path, tried = {}, [np.asarray(state.learned.weights)], []
    for episode in range(1, max(_STAGES) + 1):
        state, _ = step(state)
        learned = state.learned
        path.append(np.asarray(learned.weights))
        newest = (learned.archive.added - 1) % learned.archive.capacity
        tried.append(np.asarray(learned.archive.entries.weights[newest]))
        if episode in _STAGES or episode in _FRAMES:
            kept[episode] = np.asarray(values(learned.value, policies))
    path, tried = np.array(path), np.array(tried)
    own = true_returns(path)
    near = lambda centre: np.abs(grid() - centre).max(axis=1) <= 1.5
    correlations = [
        [
            round(_correlation(kept[at], truth), 3),
            round(_correlation(kept[at], truth, near(path[at])), 3),
        ]
        for at in _STAGES
    ]
    return {
        "noise_scale": scale,
        "seed": seed,
        "at": list(_STAGES),
        "returns": [float(f"{own[at]:.4g}") for at in _STAGES],
        "correlations": correlations,
        "values": kept,
        "path": path,
        "tried": tried,
    }


def _correlation(
    values: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None
) -> float:
    where = np.ones(len(truth), bool) if where is None else where
    return float(np.corrcoef(values[where], truth[where])[0, 1])


def _table(rows: list[dict[str, Any]]) -> str:
    stages = " | ".join(f"{at} episodes" for at in _STAGES)
    lines = [
        f"| Noise σ | | {stages} |",
        f"|---|---|{'---|' * len(_STAGES)}",
    ]
    for scale in dict.fromkeys(row["noise_scale"] for row in rows):
        mine = [row for row in rows if row["noise_scale"] == scale]
        returns = np.array([row["returns"] for row in mine])
        both = np.array([row["correlations"] for row in mine])
        everywhere, near = both[..., 0], both[..., 1]
        for title, numbers in (
            (f"{scale} | return of the policy", returns),
            (" | correlation of V and J, everywhere", everywhere),
            (" | the same within 1.5 of the policy", near),
        ):
            cells = [", ".join(f"{x:.2f}" for x in column) for column in numbers.T]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _shade(returns: np.ndarray) -> np.ndarray:
    """-log(-J), in the form of the picture."""
    return -np.log10(np.maximum(-returns, 1.0)).reshape(_POINTS, _POINTS)


def _ranked(values: np.ndarray) -> np.ndarray:
    """By rank: V's own scale says nothing of the truth's."""
    return np.argsort(np.argsort(values)).reshape(_POINTS, _POINTS)


def _panel(axes: Any, picture: np.ndarray, run: dict[str, Any], episode: int) -> None:
    extent = (*_WEIGHTS, *_BIASES)
    axes.imshow(picture, origin="lower", extent=extent, aspect="auto", cmap="viridis")
    tried, path = run["tried"][:episode], run["path"][: episode + 1]
    axes.plot(*tried.T, ".", ms=2.5, color="tab:blue", alpha=0.7)
    axes.plot(*path.T, color="tab:red", linewidth=1.2)
    axes.plot(*path[-1], "o", ms=4, color="tab:red")
    axes.plot(-0.618, 0, "*", ms=9, color="white", markeredgecolor="black")
    axes.set(xlim=_WEIGHTS, ylim=_BIASES)


def _draw(run: dict[str, Any], truth: np.ndarray) -> Figure:
    """The true returns above, V below, a column a stage."""
    figure = Figure(figsize=(3 * len(_STAGES), 5.2), layout="constrained")
    above, below = figure.subplots(2, len(_STAGES), sharex=True, sharey=True)
    for i, at in enumerate(_STAGES):
        _panel(above[i], _shade(truth), run, at)
        _panel(below[i], _ranked(run["values"][at]), run, at)
        above[i].set_title(f"{at} episodes")
        below[i].set_xlabel("weight")
    above[0].set_ylabel("true J, -log(-J)\nbias")
    below[0].set_ylabel("V, by rank\nbias")
    return figure


def _animate(run: dict[str, Any], truth: np.ndarray) -> None:
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(7, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)

        def show(episode: int) -> None:
            for axes in (left, right):
                axes.clear()
            _panel(left, _shade(truth), run, episode)
            _panel(right, _ranked(run["values"][episode]), run, episode)
            left.set(title=f"true J after {episode} episodes", xlabel="weight")
            left.set_ylabel("bias")
            right.set(title="V", xlabel="weight")

        movie = FuncAnimation(figure, show, frames=_FRAMES)
        path = RESULTS / "pvf_landscape.webp"
        movie.save(path, writer=PillowWriter(fps=8), dpi=80)
    print(f"Written: docs/results/{path.name}")


if __name__ == "__main__":
    main()
