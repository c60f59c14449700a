"""Cartpole with 1 to 512 environments, as Figure 1 of Bohlinger and Peters (2025).

python benchmarks/epvf_cartpole_envs.py
"""

import numpy as np
from _common import curves, smooth, train, write
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


def _draw(result: dict[str, list[dict]]) -> Figure:
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    panels = figure.subplots(1, len(_SETTINGS), sharey=True)
    for axes, (name, setting) in zip(panels, _SETTINGS.items(), strict=True):
        for place, envs in enumerate(_ENVIRONMENTS):
            runs = [run for run in result[name] if run["num_envs"] == envs]
            smoothed = [smooth(run["return_perturbed_mean"], _WINDOW) for run in runs]
            color = f"C{place}"
            iterations = np.arange(1, len(smoothed[0]) + 1)
            axes.plot(
                iterations, np.mean(smoothed, axis=0), color=color, label=str(envs)
            )
            axes.fill_between(
                iterations,
                np.min(smoothed, axis=0),
                np.max(smoothed, axis=0),
                color=color,
                alpha=0.15,
                linewidth=0,
            )
        axes.set(title=setting["title"], xlabel="iterations", xscale="log")
        axes.title.set_fontsize("medium")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("mean return of the perturbed policies")
    panels[0].legend(title="environments", loc="upper left")
    return figure


if __name__ == "__main__":
    main()
