"""Five seeds of the default command: returns and wall time.

python benchmarks/epvf_cartpole.py
"""

from _common import curves, train, write
from matplotlib.figure import Figure


_SEEDS = range(5)


def main() -> None:
    runs = []
    for seed in _SEEDS:
        run = train("--seed", str(seed))
        evaluation = run["evaluation"]
        runs.append(
            {
                "seed": seed,
                "command": run["command"],
                "mean_return": evaluation["mean"],
                "lowest_return": min(evaluation["returns"]),
                "wall_seconds": round(run["wall_seconds"], 2),
                "compile_seconds": round(run["rows"][0]["compile_seconds"], 2),
                **curves(
                    run["rows"],
                    *("env_steps", "seconds", "critic_correlation"),
                    *("return_perturbed_mean", "return_policy"),
                ),
            }
        )
        print(
            f"seed {seed}: mean return {evaluation['mean']:.1f} of 100 episodes, "
            f"{run['wall_seconds']:.1f} s"
        )
    solved = sum(run["mean_return"] >= 495 for run in runs)
    print(f"{solved} of {len(runs)} seeds at 495 or more")
    write(
        "epvf_cartpole",
        "python benchmarks/epvf_cartpole.py",
        {"seeds_at_495_or_more": solved, "runs": runs},
        _draw(runs),
    )


def _draw(runs: list[dict]) -> Figure:
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for run in runs:
        label = f"seed {run['seed']}: {run['wall_seconds']:.0f} s"
        left.plot(run["seconds"], run["return_policy"], label=label)
        steps = [count / 1e6 for count in run["env_steps"]]
        right.plot(steps, run["return_perturbed_mean"], label=label)
    left.set(
        title="the policy",
        xlabel="seconds since compilation began",
        ylabel="undiscounted return",
    )
    left.set_xlim(0)
    right.set(title="its perturbations, mean", xlabel="million environment steps")
    right.legend(title="wall time of the command", loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.suptitle("python -m applications.epvf.train, five seeds, cartpole, CPU")
    return figure


if __name__ == "__main__":
    main()
