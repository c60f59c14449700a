"""Cartpole with 1 to 512 environments, as Figure 1 of Bohlinger and Peters (2025).

python benchmarks/epvf_cartpole_envs.py
"""

import numpy as np
from _common import curves, smooth, train, write
from _style import in_style, panels
from matplotlib import colormaps
from matplotlib.figure import Figure


_ENVIRONMENTS = (1, 2, 4, 8, 64, 512)
_SEEDS = range(3)
_ARCHIVE = 512
_SETTINGS = {
    "default": {
        "title": "the default command, --num-envs changed",
        "flags": lambda envs: ("--iterations", "300"),
    },
    "same_archive": {
        "title": "archive of 512 policies and batch of 64 for all",
        "flags": lambda envs: (
            *("--iterations", "1000", "--archive", str(_ARCHIVE // envs)),
            *("--batch-size", "64", "--policy-lr", "1e-3"),
            *("--policy-lr-schedule", "constant"),
        ),
    },
}
# Iterations over which the mean return of the perturbed policies is averaged to say
# when a run got to 400.
_WINDOW = 20


def main() -> None:
    result = {}
    for name, setting in _SETTINGS.items():
        result[name] = []
        for envs in _ENVIRONMENTS:
            for seed in _SEEDS:
                run = train(
                    *("--preset", "paper"),
                    *("--num-envs", str(envs), "--seed", str(seed)),
                    *("--checkpoint-every", "1000000"),
                    *setting["flags"](envs),
                )
                rows = run["rows"]
                returns = [row["return_perturbed_mean"] for row in rows]
                high = np.flatnonzero(smooth(returns, _WINDOW)[_WINDOW - 1 :] >= 400)
                reached = int(high[0]) + _WINDOW if len(high) else None
                result[name].append(
                    {
                        "num_envs": envs,
                        "seed": seed,
                        "command": run["command"],
                        "mean_return": run["evaluation"]["mean"],
                        "wall_seconds": round(run["wall_seconds"], 2),
                        "iterations_to_400": reached,
                        **curves(rows, "env_steps", "return_perturbed_mean"),
                    }
                )
                print(
                    f"{name}, {envs} environments, seed {seed}: perturbed mean of 400 "
                    f"after {reached} iterations, final policy "
                    f"{run['evaluation']['mean']:.1f}, {run['wall_seconds']:.1f} s",
                    flush=True,
                )
    write(
        "epvf_cartpole_envs",
        "python benchmarks/epvf_cartpole_envs.py",
        result,
        _draw(result),
    )


@in_style()
def _draw(result: dict[str, list[dict]]) -> Figure:
    figure, grid = panels(len(_SETTINGS), 2, 3.2, sharey=True)
    # From few to many, from light to dark.
    shades = colormaps["viridis_r"](np.linspace(0.15, 1.0, len(_ENVIRONMENTS)))
    for axes, (name, setting) in zip(grid, _SETTINGS.items(), strict=True):
        for color, envs in zip(shades, _ENVIRONMENTS, strict=True):
            runs = [run for run in result[name] if run["num_envs"] == envs]
            smoothed = [smooth(run["return_perturbed_mean"], _WINDOW) for run in runs]
            iterations = np.arange(1, len(smoothed[0]) + 1)
            middle = np.mean(smoothed, axis=0)
            axes.plot(iterations, middle, color=color, label=str(envs))
            low, high = np.min(smoothed, axis=0), np.max(smoothed, axis=0)
            axes.fill_between(iterations, low, high, color=color, alpha=0.15, lw=0)
        axes.set(title=setting["title"], xlabel="iterations", xscale="log")
    grid[0].set_ylabel("mean return of the perturbed policies")
    grid[0].legend(title="environments", loc="upper left")
    return figure


if __name__ == "__main__":
    main()
