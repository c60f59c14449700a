"""Five seeds of the default command: returns and wall time.

python benchmarks/epvf_cartpole.py
"""

from _common import curves, train, write
from _style import band, in_style, panels
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


@in_style()
def _draw(runs: list[dict]) -> Figure:
    figure, (left, right) = panels(2, 2, 2.9, sharey=True)
    for axes, what in ((left, "seconds"), (right, "env_steps")):
        for metric, color, label in (
            ("return_policy", "tab:blue", "the policy"),
            ("return_perturbed_mean", "tab:orange", "its perturbations, mean"),
        ):
            scale = 1e6 if what == "env_steps" else 1
            places = [[x / scale for x in run[what]] for run in runs]
            values = [run[metric] for run in runs]
            if (
                what == "seconds"
            ):  # Compilation takes longer in one run than in another.
                began = [run["compile_seconds"] for run in runs]
                places = [
                    [x - start for x in own]
                    for own, start in zip(places, began, strict=True)
                ]
            band(axes, places, values, color=color, label=label)
    left.set(xlabel="seconds after compilation", ylabel="return")
    right.set(xlabel="million environment steps")
    right.legend(loc="lower right")
    figure.suptitle("python -m applications.epvf.train: median and range of five seeds")
    return figure


if __name__ == "__main__":
    main()
