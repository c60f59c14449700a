"""What results say of claims: a number, the seeds behind it, and a verdict by a rule.

A verdict is `yes`, `partly`, `no` or `not decided`; the rule stands in the function's
docstring.
"""

from collections.abc import Iterable
from statistics import mean, median
from typing import Any, NamedTuple


# What counts as doing as well as another.
_AS_GOOD = 0.95


class Finding(NamedTuple):
    """What results say of a claim."""

    ours: str
    seeds: int
    verdict: str


def _number(x: float) -> str:
    return f"{round(x):,}"


def _rows(content: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {tuple(row["group"]): row for row in content["table"]}


def _least_seeds(rows: Iterable[dict[str, Any]]) -> int:
    return min(len(row["mean_returns"]) for row in rows)


def _some(hits: int, of: int) -> str:
    """Yes for all, no for none, partly otherwise."""
    return "yes" if hits == of else "partly" if hits else "no"


def _by_envs(runs: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    sizes = sorted({run["num_envs"] for run in runs}, reverse=True)
    return {size: [run for run in runs if run["num_envs"] == size] for size in sizes}


def all_come_to_500(content: dict[str, Any]) -> Finding:
    """Yes if perturbed policies have 495 everywhere; partly if the policies have."""
    sizes = _by_envs(content["same_archive"])
    tried = {
        size: median(sum(run["return_perturbed_mean"][-20:]) / 20 for run in runs)
        for size, runs in sizes.items()
    }
    finals = min(run["mean_return"] for run in content["same_archive"])
    told = ", ".join(f"{size}: {_number(x)}" for size, x in tried.items())
    verdict = "no" if finals < 495 else "yes" if min(tried.values()) > 495 else "partly"
    return Finding(
        f"final policies at least {_number(finals)}; perturbed ones at the end, by "
        f"number of environments, {told}",
        min(map(len, sizes.values())),
        verdict,
    )


def more_are_faster(content: dict[str, Any]) -> Finding:
    """Yes if more environments never take more iterations, partly if mostly."""
    times = {}
    for size, runs in _by_envs(content["same_archive"]).items():
        found = [run["iterations_to_400"] or float("inf") for run in runs]
        times[size] = median(found)
    values = list(times.values())
    in_order = sum(a <= b for a, b in zip(values, values[1:], strict=False))
    told = ", ".join(
        f"{size}: {'-' if x == float('inf') else _number(x)}"
        for size, x in times.items()
    )
    least = min(map(len, _by_envs(content["same_archive"]).values()))
    verdict = _some(in_order, len(values) - 1)
    return Finding(f"iterations to a mean of 400, {told}", least, verdict)


def ant_return(content: dict[str, Any]) -> Finding:
    """Yes at 900 and more with any number of environments, no below."""
    rows = {k: row for (_, k), row in _rows(content).items() if k.startswith("epvf")}
    returns = {name: row["interquartile_mean"] for name, row in rows.items()}
    told = ", ".join(
        f"{name.removesuffix(' environments').partition(', ')[2] or 256}: {_number(x)}"
        for name, x in returns.items()
    )
    steps = _number(rows["epvf"]["env_steps"] / 1e6)
    return Finding(
        f"after {steps} M steps on a CPU, by environments, {told}",
        _least_seeds(rows.values()),
        _some(max(returns.values()) >= 900, 1),
    )


def ant_speed(content: dict[str, Any]) -> Finding | None:
    """Yes at 3 million steps a second and more, learning included."""
    rows = [x for x in content["rows"] if "left_out" not in x]
    if not rows:
        return None
    row = max(rows, key=lambda row: row["steps_per_second"])
    ours = f"{_number(row['steps_per_second'])} with {_number(row['num_envs'])}"
    fast = row["steps_per_second"] >= 3e6
    return Finding(f"{ours} on {content['device']}", 1, _some(fast, 1))


def without_clip(content: dict[str, Any]) -> Finding:
    """Yes if it is worse wherever that can be seen.

    It cannot where the runs are the same, and where all seeds of both have the same
    return, which is the most that there is. Not decided if it cannot anywhere.
    """
    rows, told, worse, acts = _rows(content), [], 0, 0
    for task in dict.fromkeys(task for task, _ in rows):
        base, other = rows[task, "as-it-is"], rows[task, "no-clip"]
        same = ("mean_returns", "env_steps")
        if all(base[name] == other[name] for name in same):
            told.append(f"`{task}`: the clip never acts")
            continue
        if base["mean_returns"] == other["mean_returns"]:
            most = _number(base["interquartile_mean"])
            told.append(f"`{task}`: {most} with and without, the most there is")
            continue
        acts += 1
        base, other = base["interquartile_mean"], other["interquartile_mean"]
        worse += other < _AS_GOOD * base
        told.append(f"`{task}`: {_number(other)} without, {_number(base)} with")
    verdict = _some(worse, acts) if acts else "not decided"
    return Finding("; ".join(told), _least_seeds(rows.values()), verdict)


def larger_archive(content: dict[str, Any]) -> Finding:
    """Yes if it is nowhere better."""
    rows, told, better = _rows(content), [], 0
    tasks = list(dict.fromkeys(task for task, _ in rows))
    for task in tasks:
        base = rows[task, "as-it-is"]["interquartile_mean"]
        other = rows[task, "archive-of-100-batches"]["interquartile_mean"]
        better += _AS_GOOD * other > base
        told.append(f"`{task}`: {_number(other)} with 100, {_number(base)} without")
    verdict = _some(len(tasks) - better, len(tasks))
    return Finding("; ".join(told), _least_seeds(rows.values()), verdict)


_WEIGHT_SPACE = ("equivariant", "transformer", "graph", "scale-graph", "forward-graph")


def raw_weights(content: dict[str, Any]) -> Finding:
    """Yes where raw weights do better than answers to probes."""
    rows, told, better = _rows(content), [], 0
    tasks = list(dict.fromkeys(task for task, _ in rows))
    for task in tasks:
        flat = rows[task, "flat"]["interquartile_mean"]
        probing = rows[task, "probing"]["interquartile_mean"]
        better += flat > probing
        told.append(f"`{task}`: weights {_number(flat)}, probing {_number(probing)}")
    verdict = _some(better, len(tasks))
    return Finding("; ".join(told), _least_seeds(rows.values()), verdict)


def weight_space_networks(content: dict[str, Any]) -> Finding:
    """Yes where one of them does as well as raw weights."""
    rows, told, good = _rows(content), [], 0
    tasks = list(dict.fromkeys(task for task, _ in rows))
    for task in tasks:
        flat = rows[task, "flat"]["interquartile_mean"]
        found = {
            name: rows[task, name]["interquartile_mean"]
            for name in _WEIGHT_SPACE
            if (task, name) in rows
        }
        best = max(found, key=lambda name: found[name])
        good += found[best] >= _AS_GOOD * flat
        told.append(f"`{task}`: {best} {_number(found[best])}, weights {_number(flat)}")
    verdict = _some(good, len(tasks))
    return Finding("; ".join(told), _least_seeds(rows.values()), verdict)


def against(content: dict[str, Any], own: str, others: tuple[str, ...]) -> Finding:
    """Yes where it is as good as all of the others, if all of them are there."""
    rows, told, good, of = _rows(content), [], 0, 0
    used = []
    missing = {name for name in others if not any(name == x for _, x in rows)}
    for task in dict.fromkeys(task for task, _ in rows):
        there = [name for name in others if (task, name) in rows]
        if not there or (task, own) not in rows:
            continue
        of += 1
        used += [rows[task, name] for name in (own, *there)]
        mine = rows[task, own]["interquartile_mean"]
        theirs = {name: rows[task, name]["interquartile_mean"] for name in there}
        good += mine >= _AS_GOOD * max(theirs.values())
        beside = ", ".join(f"{x.upper()} {_number(y)}" for x, y in theirs.items())
        told.append(f"`{task}`: {_number(mine)} ({beside})")
    verdict = _some(good, of)
    if missing:
        told.append(f"{', '.join(sorted(missing)).upper()} not measured")
        verdict = "partly" if good else "no"
    return Finding("; ".join(told), _least_seeds(used), verdict)


def at_equal_cost(
    content: dict[str, Any], own: str, others: tuple[str, ...]
) -> Finding:
    """Yes where it is as good as all of the others at equal seconds and at equal steps.

    Of the budgets of a task and a cost the largest counts that it and all of the others
    have used in every seed.
    """
    rows, told, good, used = _rows(content), [], [], []
    for task in dict.fromkeys(task for task, _ in rows):
        mine = [rows.get((task, name)) for name in (own, *others)]
        there = [row for row in mine if row is not None]
        if len(there) < len(mine):
            continue
        used += [len(row["seeds"]) for row in there]
        for cost, unit in (("seconds", "seconds"), ("env_steps", "steps")):
            for budgets in zip(*(reversed(row[cost]) for row in there), strict=True):
                means = [one["interquartile_mean"] for one in budgets]
                if None in means:
                    continue
                good.append(means[0] >= _AS_GOOD * max(means[1:]))
                beside = ", ".join(
                    f"{name.rpartition('-')[2].upper()} {_number(value)}"
                    for name, value in zip(others, means[1:], strict=True)
                )
                budget = f"{budgets[0]['budget']:,} {unit}"
                told.append(f"`{task}`, {budget}: {_number(means[0])} ({beside})")
                break
    return Finding("; ".join(told), min(used), _some(sum(good), len(good)))


def against_curves(
    content: dict[str, Any], beside: dict[str, Any], names: tuple[str, ...], other: str
) -> Finding | None:
    """Yes where the best of some has what another one has at its end.

    Partly where that is so after as many steps only.

    Args:
        content: Results with a row for each of the names.
        beside: Results with curves of the other one.
        names: How the groups begin that count.
        other: The other one.

    Returns:
        The finding; None without tasks that both have.
    """
    told, good, used = [], [], []
    tasks = list(dict.fromkeys(row["group"][0] for row in content["table"]))
    for task in tasks:
        theirs = [run for run in beside["runs"] if run["group"] == [task, other]]
        mine = [
            row
            for row in content["table"]
            if row["group"][0] == task and row["group"][1].startswith(names)
        ]
        if not theirs or not mine:
            continue
        used += mine
        best = max(mine, key=lambda row: mean(row["mean_returns"]))
        # Curves have points, and the last one before that number of steps counts.
        reached = mean(
            [
                value
                for steps, value in zip(
                    run["env_steps"], run["return_policy"], strict=True
                )
                if steps <= best["env_steps"] and value is not None
            ][-1]
            for run in theirs
        )
        ours = mean(best["mean_returns"])
        last = mean(run["mean_return"] for run in theirs)
        good += [ours >= _AS_GOOD * reached, ours >= _AS_GOOD * last]
        told.append(
            f"`{task}`, {_number(best['env_steps'] / 1e3)} thousand steps: "
            f"{_number(ours)} ({best['group'][1]}), {other.upper()} {_number(reached)} "
            f"({_number(last)} at its end)"
        )
    if not used:
        return None
    return Finding("; ".join(told), _least_seeds(used), _some(sum(good), len(good)))


def lqr(content: dict[str, Any]) -> Finding:
    """Yes if V is first right near the policy and at the end everywhere, by 0.9."""
    rows = [row for row in content["rows"] if row["noise_scale"] == 1.0]
    early, late = (
        [median(row["correlations"][at][place] for row in rows) for place in (0, 1)]
        for at in (0, -1)
    )
    good = early[1] > early[0] and late[0] >= 0.9
    first, last = rows[0]["at"][0], rows[0]["at"][-1]
    return Finding(
        f"correlation of V with the true return: {early[1]:.2f} near the policy and "
        f"{early[0]:.2f} everywhere after {first} episodes, {late[0]:.2f} everywhere "
        f"after {_number(last)}",
        len(rows),
        _some(good, 1),
    )


def zero_shot(content: dict[str, Any], shapes: tuple[str, ...]) -> Finding:
    """Yes for shapes whose median, where V stops them, is that of the best seen."""
    told, good, of, seeds = [], 0, 0, set()
    for task in dict.fromkeys(row["task"] for row in content["rows"]):
        for shape in shapes:
            rows = [
                row
                for row in content["rows"]
                if (row["task"], row["critic"], row["policy"])
                == (task, "learned", shape)
            ]
            seeds |= {row["seed"] for row in rows}
            stopped = median(row["returns"][row["stop"]] for row in rows)
            best = median(row["best_seen"] for row in rows)
            of += 1
            good += stopped >= _AS_GOOD * best
            told.append(f"`{task}`, {shape}: {_number(stopped)}, best {_number(best)}")
    return Finding("; ".join(told), len(seeds), _some(good, of))


def crucial(content: dict[str, Any]) -> Finding:
    """Yes if clones by learned states do as the teacher and others do not; partly if
    they do, and others too.
    """
    told, verdicts, seeds = [], [], set()
    rows = content["rows"]
    teacher = median(row["teacher"] for row in rows)
    for count in sorted({row["count"] for row in rows}):
        own = [row for row in rows if row["count"] == count]
        seeds |= {row["seed"] for row in own}

        def of(states: str, own: list[dict[str, Any]] = own) -> float:
            return median(x for r in own if r["states"] == states for x in r["returns"])

        learned, random = of("learned by V"), of("random")
        told.append(
            f"{count} states: learned {_number(learned)}, random {_number(random)}"
        )
        enough = _AS_GOOD * teacher
        verdicts.append(
            "no" if learned < enough else "partly" if random >= enough else "yes"
        )
    best = min(verdicts, key=("yes", "partly", "no").index)
    ours = f"teachers {_number(teacher)}; {'; '.join(told)}"
    return Finding(ours, len(seeds), best)


def digits(content: dict[str, Any]) -> Finding:
    """Yes at half of ordinary training's accuracy, partly beyond the best one told."""
    rows = content["rows"]
    of = lambda kind: median(x for row in rows for x in row[f"accuracy_{kind}"][-1])
    told = median(row["best_tested"] for row in rows)
    learned, trained = of("learned"), of("trained")
    ours = (
        f"{learned:.0%}; the best network that V was told of {told:.0%}, probes that "
        f"do not learn {of('frozen'):.0%}, ordinary training {trained:.0%}"
    )
    good = (learned > told) + (learned >= trained / 2)
    return Finding(ours, len({row["seed"] for row in rows}), _some(good, 2))


def commands(content: dict[str, Any]) -> Finding:
    """Yes on tasks where commands and outcomes have a rank correlation of 0.9 in every
    seed, and errors are a tenth of what was achieved at best, in the median.
    """
    rows = {t: row for (t, name), row in _rows(content).items() if name == "gogepo"}
    good, told = 0, []
    for task, row in rows.items():
        ranks = row["rank_correlation"]
        error = median(row["mean_error"]) / median(row["best_achieved"])
        good += min(ranks) >= 0.9 and error <= 0.1
        told.append(
            f"`{task}`: {min(ranks):.2f} to {max(ranks):.2f}, off by {error:.0%}"
        )
    return Finding("; ".join(told), _least_seeds(rows.values()), _some(good, len(rows)))


def beyond_the_best(content: dict[str, Any]) -> Finding:
    """Yes if it is as good as the default, which does not command beyond the best."""
    rows = _rows(content)
    base, beyond = rows["cartpole", "plain"], rows["cartpole", "best-plus-drive"]
    mine, theirs = base["interquartile_mean"], beyond["interquartile_mean"]
    return Finding(
        f"`cartpole`: {_number(theirs)}, {_number(mine)} by our way",
        _least_seeds([base, beyond]),
        _some(theirs >= _AS_GOOD * mine, 1),
    )


def solved(content: dict[str, Any], own: tuple[str, ...]) -> Finding | None:
    """Yes if every seed of every one of them has solved it."""
    rows = [row for row in content["table"] if row["group"][1].startswith(own)]
    if not rows:
        return None
    told = "; ".join(
        f"{row['group'][1]}: {row['seeds_solved']} of {len(row['mean_returns'])}"
        for row in rows
    )
    hits = sum(row["seeds_solved"] == len(row["mean_returns"]) for row in rows)
    return Finding(
        f"seeds that solve it: {told}", _least_seeds(rows), _some(hits, len(rows))
    )
