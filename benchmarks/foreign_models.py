"""Models that nobody here wrote: the whole group, the group found, and a verdict.

Then the linear maps beyond it, once gains of norms are folded into what reads them.

Models of PyTorch and transformers are taken in where torch, torchax and transformers
are installed.

python -m benchmarks.foreign_models
"""

import argparse
import collections
import importlib.util
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

import wsl
from benchmarks._common import fill, write
from benchmarks._foreign_jax import JAX_CASES
from benchmarks._style import in_style, legend_below, panels
from wsl.matching import match_jointly


def _measure(
    fn: Callable[..., Any], weights: Any, inputs: Any, case: Any, space: Any = None
) -> dict[str, Any]:
    began = time.process_time()
    if space is None:
        space = wsl.infer_weight_space(fn, weights, *inputs)
    seconds = time.process_time() - began
    began = time.process_time()
    report = wsl.verify_symmetry(
        space, fn, weights, *inputs, key=jax.random.key(0), num_samples=2, mode="quick"
    )
    checked = time.process_time() - began
    moved = space.permute(weights, space.sample(key=jax.random.key(1)))
    match = wsl.match_weights(space, weights, moved, key=jax.random.key(2))
    return {
        "whole": sorted(case.groups),
        "found": sorted(space.groups.values()),
        "ties": list(space.ties),
        "not_followed": list(space.unknown_primitives),
        "infer_seconds": round(seconds, 2),
        "verify_seconds": round(checked, 2),
        "verdict": report.verdict,
        "distance": [float(f"{match.distance_before:.3g}"), float(match.distance)],
        "linear": _measure_linear(fn, weights, inputs, case, space),
    }


def _measure_linear(
    fn: Callable[..., Any], weights: Any, inputs: Any, case: Any, space: Any
) -> dict[str, Any]:
    began = time.process_time()
    folded = wsl.fold_gains(space, fn, weights, *inputs, key=jax.random.key(3))
    symmetry = wsl.infer_linear_symmetry(
        space,
        fn,
        folded.weights,
        *inputs,
        key=jax.random.key(4),
        constant=folded.gains,
    )
    seconds = time.process_time() - began
    row = {
        "whole": sorted(case.linear),
        "found": sorted(map(_named, symmetry.groups)),
        "gains": len(folded.gains),
        "seconds": round(seconds, 2),
    }
    if not symmetry.groups:
        return row
    copy = space.permute(folded.weights, space.sample(key=jax.random.key(5)))
    copy = symmetry.act(copy, symmetry.sample(key=jax.random.key(6)))
    match = match_jointly(symmetry, folded.weights, copy, key=jax.random.key(7))
    distances = (match.distance_before, match.distance)
    return row | {"distance": [float(f"{x:.3g}") for x in distances]}


def _named(group: wsl.LinearGroup) -> str:
    letters = {"invertible": "GL", "orthogonal": "O", "rotary": "C"}
    size = "*" if group.kind == "rotary" else f"({group.shape[-1]})"
    count = math.prod(group.shape[:-2])
    return letters[group.kind] + size + (f" in {count}" if count > 1 else "")


def _torch_rows(names: list[str]) -> list[dict[str, Any]]:
    from benchmarks._foreign_torch import TORCH_CASES
    from wsl.interop.torch import from_torch

    rows = []
    for name, case in TORCH_CASES.items():
        if names and name not in names:
            continue
        module, inputs, output = case.make()
        began = time.process_time()
        imported = from_torch(module, *inputs, output=output)
        seconds = time.process_time() - began
        given = [jnp.asarray(x.numpy()) for x in inputs]
        row = _measure(imported.fn, imported.weights, given, case, imported.space)
        rows.append({"model": name, **row, "infer_seconds": round(seconds, 2)})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Infers all models, and writes table and picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="*", default=[])
    names, rows = parser.parse_args().models, []
    for name, case in JAX_CASES.items():
        if not names or name in names:
            fn, weights, inputs = case.make()
            row = _measure(fn, weights, inputs, case)
            rows.append({"model": name, **row})
            print(rows[-1], flush=True)
    needed = ("torch", "torchax", "transformers")
    if all(importlib.util.find_spec(package) for package in needed):
        rows += _torch_rows(names)
    command = "python -m benchmarks.foreign_models"
    write("foreign_models", command, {"rows": rows}, _draw(rows))
    fill("foreign.md", "models", _table(rows))
    fill("foreign.md", "linear maps", _linear_table(rows))


def _table(rows: list[dict]) -> str:
    lines = [
        "| model | groups, by hand | found | infer | verify | verdict | a copy |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        whole, found = row["whole"], row["found"]
        shown = "the same" if whole == found else _counted(found)
        before, after = row["distance"]
        lines.append(
            f"| {row['model']} | {_counted(whole)} | {shown} | "
            f"{row['infer_seconds']} | {row['verify_seconds']} | {row['verdict']} | "
            f"{before:.1f} → {after:.1g} |"
        )
    return "\n".join(lines)


def _linear_table(rows: list[dict]) -> str:
    lines = [
        "| model | linear maps, by hand | found | gains | seconds | a copy |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        linear = row["linear"]
        if not (linear["whole"] or linear["found"]):
            continue
        whole, found = _counted(linear["whole"]), _counted(linear["found"])
        before, after = linear.get("distance", [0.0, 0.0])
        lines.append(
            f"| {row['model']} | {whole} | {'the same' if whole == found else found} | "
            f"{linear['gains']} | {linear['seconds']} | {before:.1f} → {after:.1g} |"
        )
    return "\n".join(lines)


def _counted(names: list[Any]) -> str:
    counts = collections.Counter(names)
    return ", ".join(
        f"{name}" if count == 1 else f"{count} × {name}"
        for name, count in counts.items()
    )


@in_style()
def _draw(rows: list[dict]) -> Figure:
    figure, (axes,) = panels(1, 1, 0.26 * len(rows) + 0.8)
    places = range(len(rows))
    axes.barh(places, [row["infer_seconds"] for row in rows], 0.4, label="infer")
    checks = [row["verify_seconds"] for row in rows]
    axes.barh([p + 0.4 for p in places], checks, 0.4, label="verify, quick")
    axes.set_yticks([p + 0.2 for p in places], [row["model"] for row in rows])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="CPU seconds", xscale="log")
    legend_below(figure, [axes])
    return figure


if __name__ == "__main__":
    main()
