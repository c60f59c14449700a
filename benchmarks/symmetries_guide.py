"""How well the readers of the guide `docs/symmetries.md` read a network's frequency.

Runs the guide's own blocks, then trains both of its readers from several seeds.

    python benchmarks/symmetries_guide.py
"""

import re
from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np
from _common import ROOT, write
from matplotlib.figure import Figure


SEEDS = 3
STEPS = 100


def main() -> None:
    guide: dict[str, Any] = {"__name__": "guide"}
    text = (ROOT / "docs" / "symmetries.md").read_text()
    for code in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        exec(compile(code, "symmetries.md", "exec"), guide)
    frequencies, num_train = np.asarray(guide["frequencies"]), guide["num_train"]
    held_out = frequencies[num_train:]
    makers = {
        "equivariant": lambda key: guide["Reader"](guide["space"], 16, key=key),
        "flat": lambda key: guide["FlatReader"](guide["space"], key=key),
    }
    readings: dict[str, list[np.ndarray]] = {name: [] for name in makers}
    for seed in range(SEEDS):
        for name, make in makers.items():
            make_key, train_key = jr.split(jr.key(seed))
            reader, _ = guide["train"](make(make_key), STEPS, train_key)
            answers = eqx.filter_jit(guide["answers"])(reader, guide["population"])
            readings[name].append(np.asarray(answers))
    mean = frequencies[:num_train].mean()
    result = {
        "networks": {"train": num_train, "held_out": len(held_out)},
        "steps": STEPS,
        "mean_absolute_error": {
            "answering the mean": float(np.abs(held_out - mean).mean()),
            **{
                name: {
                    "train": [_error(x, frequencies, num_train, 0) for x in runs],
                    "held_out": [_error(x, frequencies, num_train, 1) for x in runs],
                }
                for name, runs in readings.items()
            },
        },
    }
    errors = result["mean_absolute_error"]
    print(errors)
    write(
        "symmetries_guide",
        "python benchmarks/symmetries_guide.py",
        result,
        _draw(readings, held_out, num_train, errors),
    )


def _draw(
    readings: dict[str, list[np.ndarray]],
    held_out: np.ndarray,
    num_train: int,
    errors: dict,
) -> Figure:
    figure = Figure(figsize=(8.0, 4.0), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for panel, (name, runs) in zip(panels, readings.items(), strict=True):
        panel.axline((1, 1), slope=1, color="0.7", linewidth=1)
        for seed, reading in enumerate(runs):
            panel.plot(held_out, reading[num_train:], ".", label=f"seed {seed}")
        error = np.mean(errors[name]["held_out"])
        panel.set(
            title=f"{name} reader: mean error {error:.2f}",
            xlabel="frequency of the network's sine",
        )
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("read from its weights")
    panels[0].legend()
    figure.suptitle(
        f"{len(held_out)} networks held out; answering the mean: "
        f"{errors['answering the mean']:.2f}"
    )
    return figure


def _error(
    reading: np.ndarray, frequencies: np.ndarray, num_train: int, part: int
) -> float:
    errors = np.abs(reading - frequencies)
    return float(f"{np.split(errors, [num_train])[part].mean():.4g}")


if __name__ == "__main__":
    main()
