"""The paper's Ant on a CPU: EPVF by numbers of environments, and others beside.

EPVF has `--preset ant`, about as many steps with each number of environments. ARS and
OpenES are those of `epvf_tasks`, with as many steps; the actor-critic is that of
`pvf_tasks`, with fewer, for each takes it thirty times as long. Every run has one core.
Runs are kept, so this can be stopped and started again.

    python benchmarks/epvf_ant.py
"""

from collections.abc import Sequence
from typing import Any

from _runs import result_of, Training
from _study import study
from _style import in_style, legend_below, panels
from epvf_tasks import draw_returns, TASKS as EPVF_TASKS
from matplotlib.figure import Figure
from pvf_tasks import DEEP


_STEPS, _STEPS_OF_PVF = 45_000_000, 5_500_000
_EPVF, _PVF = "applications.epvf.train", "applications.pvf.train"
_OTHERS = "applications.baselines.train"
# As many values of θ in V for each number of environments, or all of an iteration.
_SIZES = {
    256: "--iterations 200",
    1024: "--num-envs 1024 --archive 1 --iterations 50",
    4096: "--num-envs 4096 --archive 1 --kernel-points 4096 --iterations 12",
}
# What stands beside, and more environments, take hours more.
_SEEDS = {"epvf": range(3), "pvf": range(3)}


def main() -> None:
    study(
        "epvf_ant",
        "ant",
        __doc__,
        ["ant"],
        _trainings,
        lambda _, runs: _draw(runs),
        examine=lambda run: result_of(run, "return_policy", "critic_correlation"),
    )


def _trainings(tasks: Sequence[str]) -> list[Training]:
    commands = {
        "epvf" if size == 256 else f"epvf, {size:,} environments": (
            _EPVF,
            f"--preset ant {flags}",
        )
        for size, flags in _SIZES.items()
    }
    for name in ("ars", "openes"):
        flags = EPVF_TASKS["ant_servo"][1][name].rpartition("--steps")[0]
        commands[name] = (_OTHERS, f"--algorithm {name} {flags}--steps {_STEPS}")
    commands["pvf"] = (_PVF, f"{DEEP} --steps {_STEPS_OF_PVF}")
    return [
        Training((task, name), f"--env {task} {flags}", seed, module)
        for task in tasks
        for name, (module, flags) in commands.items()
        for seed in _SEEDS.get(name, range(1))
    ]


@in_style()
def _draw(runs: list[dict[str, Any]]) -> Figure:
    figure, (axes,) = panels(1, 1, 3.0)
    draw_returns(axes, runs)
    axes.set_xlabel("million environment steps")
    axes.set_ylabel("return of the policy")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    legend_below(figure, [axes])
    return figure


if __name__ == "__main__":
    main()
