"""The page "What is reproduced": a row for each claim, from the results that are there.

A verdict follows from the numbers by a rule in `_findings.py`: new results change it.
Where there are no results yet, the row says so.

    python benchmarks/reproduced.py
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from _common import fill, RESULTS
from _findings import (
    against,
    against_curves,
    all_come_to_500,
    ant_return,
    ant_speed,
    at_equal_cost,
    beyond_the_best,
    commands,
    crucial,
    digits,
    Finding,
    larger_archive,
    lqr,
    more_are_faster,
    raw_weights,
    solved,
    weight_space_networks,
    without_clip,
    zero_shot,
)


_OPEN = "not measured yet"


class Claim(NamedTuple):
    """A claim of a source.

    Attributes:
        claim: What is claimed.
        script: What measures it, in `benchmarks/`.
        results: Name of the JSON file.
        find: From its content to a finding; None where it has nothing of it.
    """

    claim: str
    script: str
    results: str
    find: Callable[[dict[str, Any]], Finding | None]


CLAIMS = {
    "epvf": [
        Claim(
            "Cartpole: with any number of environments, the perturbed policies come to "
            "a return of 500 (Figure 1)",
            "epvf_cartpole_envs.py",
            "epvf_cartpole_envs",
            all_come_to_500,
        ),
        Claim(
            "Cartpole: more environments learn faster (Figure 1)",
            "epvf_cartpole_envs.py",
            "epvf_cartpole_envs",
            more_are_faster,
        ),
        Claim(
            "Custom Ant: returns near 1,000 with 4,096 environments (Figure 2)",
            "epvf_ant.py",
            "epvf_ant",
            ant_return,
        ),
        Claim(
            "Custom Ant: 3 million control steps a second on one GPU",
            "gpu_ant.py",
            "gpu_ant",
            ant_speed,
        ),
        Claim(
            "It is worse without the weight clip (Figure 2)",
            "epvf_ablations.py",
            "epvf_ablations",
            without_clip,
        ),
        Claim(
            "An archive a hundred times as large does not help (Figure 2)",
            "epvf_ablations.py",
            "epvf_ablations",
            larger_archive,
        ),
        Claim(
            "Raw weights are a better input than answers to probes",
            "epvf_representations.py",
            "epvf_representations",
            raw_weights,
        ),
        Claim(
            "Networks for weight spaces match raw weights or exceed them",
            "epvf_representations.py",
            "epvf_representations",
            weight_space_networks,
        ),
        Claim(
            "It competes with PPO and SAC",
            "equal_cost.py",
            "equal_cost",
            lambda content: at_equal_cost(content, "epvf", ("sb3-ppo", "sb3-sac")),
        ),
    ],
    "pvf": [
        Claim(
            "LQR: V is right near the policies that were tried first, later everywhere",
            "pvf_landscape.py",
            "pvf_landscape",
            lqr,
        ),
        Claim(
            "PSVF and PAVF solve LQR",
            "pvf_lqr.py",
            "pvf_lqr",
            lambda content: solved(content, ("psvf", "pavf, both")),
        ),
        Claim(
            "PSVF and PAVF do about as well as ARS",
            "pvf_encoders.py",
            "pvf_encoders",
            lambda content: against_curves(
                content, _read("epvf_tasks"), ("Q(s, a, θ)", "V(s, θ)"), "ars"
            ),
        ),
        Claim(
            "New policies of the same shape climb a V that is learned, without an "
            "episode, to what the best policy seen has",
            "zero_shot.py",
            "zero_shot",
            lambda content: zero_shot(content, ("16-16",)),
        ),
    ],
    "gpi": [
        Claim(
            "So do policies of other shapes, by their answers in learned states",
            "zero_shot.py",
            "zero_shot",
            lambda content: zero_shot(content, ("64-64", "linear")),
        ),
        Claim(
            "To imitate a policy in a few learned states is enough to do what it does",
            "crucial_states.py",
            "crucial_states",
            crucial,
        ),
        Claim(
            "From the losses of random classifiers, none of them right on more than "
            "12 %, V teaches a new one, by learned probing pictures",
            "digits_value.py",
            "digits_value",
            digits,
        ),
    ],
    "gogepo": [
        Claim(
            "One generator makes policies with any return that was seen in training",
            "gogepo_tasks.py",
            "gogepo_tasks",
            commands,
        ),
        Claim(
            "It does as well as ARS and DDPG, or better",
            "gogepo_tasks.py",
            "gogepo_tasks",
            lambda content: against(content, "gogepo", ("ars", "ddpg")),
        ),
        Claim(
            "Commands a little beyond the best return so far drive learning",
            "gogepo_ablations.py",
            "gogepo_ablations",
            beyond_the_best,
        ),
    ],
}


def _read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(claims: Iterable[Claim]) -> str:
    """The rows of a source, in Markdown."""
    lines = [
        "| Claim | Ours | Seeds | Verdict | Script |",
        "|---|---|---|---|---|",
    ]
    for one in claims:
        there = (RESULTS / f"{one.results}.json").is_file()
        found = one.find(_read(one.results)) if there else None
        if found is None:
            cells = ("", "", _OPEN, f"`{one.script}`")
        else:
            where = f"`{one.script}` ([JSON](results/{one.results}.json))"
            cells = (found.ours, str(found.seeds), f"**{found.verdict}**", where)
        lines.append(f"| {' | '.join((one.claim, *cells))} |")
    return "\n".join(lines)


def main() -> None:
    for name, claims in CLAIMS.items():
        fill("reproduced.md", name, table(claims))
        print(table(claims))


if __name__ == "__main__":
    main()
