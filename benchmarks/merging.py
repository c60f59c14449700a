"""Two networks made one: the loss along the line between them, before and after.

Classifiers of scikit-learn's digits are trained from two seeds, aligned by weights and
by activations, those with attention by linear maps as well, and the training loss is
taken at eleven places between them. Networks
with batch norms have their statistics measured anew as well; the others have their
hidden units repaired, at five places. What is not asked for anew stays as it was.

python -m benchmarks.merging
"""

import argparse
import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from matplotlib.figure import Figure

import wsl
from benchmarks._common import fill, RESULTS, write
from benchmarks._merging_models import Model, MODELS
from benchmarks._style import in_style, label_below, legend_below, panels
from wsl.matching import (
    barrier,
    interpolate,
    match_activations,
    match_jointly,
    repair,
    reset_statistics,
)


_STEPS, _BATCH, _POINTS, _REPAIRED_POINTS = 300, 256, 11, 5
_METHODS = ("naive", "weights", "activations", "jointly")
# With more than permutations: linear maps of heads, and of a stream.
_MAPPED = ("transformer", "transformer, RMSNorm")
_RESET, _REPAIRED = ", statistics reset", ", repaired"


def _data() -> tuple[Any, Any, Any, Any]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images = jnp.asarray(images[order].reshape(-1, 8, 8) / 8.0 - 1.0, jnp.float32)
    labels = jnp.asarray(labels[order])
    return images[:1400], labels[:1400], images[1400:], labels[1400:]


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _train(model: Model, images: Any, labels: Any, seed: int) -> Any:
    init, order = jr.split(jr.key(seed))
    weights = model.make(init)
    optimiser = optax.adam(1e-3)

    def loss(weights: Any, x: Any, y: Any) -> Any:
        logits, new = model.run(weights, x, training=True)
        return _cross_entropy(logits, y), new.get("stats")

    @jax.jit
    def run(weights: Any) -> Any:
        def step(carry: Any, key: Any) -> Any:
            weights, state = carry
            chosen = jr.choice(key, len(images), (_BATCH,), replace=False)
            gradients, stats = jax.grad(loss, has_aux=True)(
                weights, images[chosen], labels[chosen]
            )
            updates, state = optimiser.update(gradients, state)
            weights: Any = optax.apply_updates(weights, updates)
            if stats is not None:
                weights = {**weights, "stats": stats}
            return (weights, state), None

        keys = jr.split(order, _STEPS)
        return jax.lax.scan(step, (weights, optimiser.init(weights)), keys)[0][0]

    return run(weights)


def _pair(name: str, seed: int, data: Any, methods: list[str]) -> dict[str, Any]:
    model, (images, labels, held_images, held_labels) = MODELS[name], data

    def answer(weights: Any, x: Any) -> Any:
        return model.run(weights, x)[0]

    def loss(weights: Any) -> Any:
        return _cross_entropy(answer(weights, images), labels)

    def accuracy(weights: Any) -> float:
        guess = jnp.argmax(answer(weights, held_images), -1)
        return float((guess == held_labels).mean())

    def update(weights: Any, x: Any) -> Any:
        return model.run(weights, x, training=True)[1]

    a, b = (_train(model, images, labels, 2 * seed + i) for i in range(2))
    batch = images[:500]
    space = wsl.infer_weight_space(answer, a, batch)
    stats = {leaf.path: 0.0 for leaf in space.leaves if "stats" in leaf.path}

    def align(method: str) -> Any:
        if method == "naive":
            return b
        if method == "weights":
            key = jr.key(0)
            return wsl.match_weights(space, a, b, key=key, leaf_weights=stats).aligned
        if method == "activations":
            return match_activations(space, a, b, batch, fn=answer).aligned
        key = jr.key(0)
        maps = wsl.infer_linear_symmetry(space, answer, a, batch[:8], key=key)
        return match_jointly(maps, a, b, batch, key=key, fn=answer).aligned

    row: dict[str, Any] = {"model": name, "seed": seed, "groups": len(space.groups)}
    row["accuracy_ends"] = [accuracy(a), accuracy(b)]
    if name not in _MAPPED:
        methods = [method for method in methods if method != "jointly"]
    for method in methods:
        began = time.process_time()
        other = align(method)
        seconds = time.process_time() - began

        def mend(weights: Any, other: Any = other) -> Any:
            if stats:
                return reset_statistics(weights, update, images)
            return repair(space, weights, [a, other], batch, fn=answer)

        points = _POINTS if stats else _REPAIRED_POINTS
        mended = _RESET if stats else _REPAIRED
        for adjust, suffix, n in ((None, "", _POINTS), (mend, mended, points)):
            found = barrier(loss, a, other, num_points=n, adjust=adjust)
            middle = interpolate(a, other, 0.5)
            middle = middle if adjust is None else adjust(middle)
            row[method + suffix] = {
                "barrier": found.height,
                "losses": found.losses,
                "accuracy_middle": accuracy(middle),
                "cpu_seconds": seconds,
            }
    return row


def main() -> None:
    """Trains, aligns, measures, and writes table and picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--methods", nargs="*", default=_METHODS, choices=_METHODS)
    arguments = parser.parse_args()
    data, path = _data(), RESULTS / "merging.json"
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    known = {(row["model"], row["seed"]): row for row in before}
    for name in arguments.models:
        for seed in range(arguments.seeds):
            row = _pair(name, seed, data, list(arguments.methods))
            known[name, seed] = known.get((name, seed), {}) | row
            heights = {
                m: round(v["barrier"], 4) for m, v in row.items() if isinstance(v, dict)
            }
            print(name, seed, heights, flush=True)
    rows = [row for name in MODELS for key, row in known.items() if key[0] == name]
    # What the page says can be read off the file.
    rows = _rounded(rows)
    command = "python -m benchmarks.merging"
    write("merging", command, {"rows": rows}, _draw(rows))
    fill("merging.md", "merging", _table(rows))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(x) for x in value] if isinstance(value, list | tuple) else value


def _mean(rows: list[dict], name: str, method: str, what: str) -> float | None:
    found = [r[method][what] for r in rows if r["model"] == name and method in r]
    return float(np.mean(found)) if found else None


def _mended(rows: list[dict], name: str, method: str, what: str) -> float | None:
    reset = _mean(rows, name, method + _RESET, what)
    return _mean(rows, name, method + _REPAIRED, what) if reset is None else reset


def _table(rows: list[dict]) -> str:
    lines = [
        "| network | as they are | by weights | by activations | and linear maps | "
        "accuracy of the mean (of the two) |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["model"] for row in rows):
        cells = []
        for method in _METHODS:
            before = _mean(rows, name, method, "barrier")
            after = _mended(rows, name, method, "barrier")
            shown = "" if before is None else f"{before:.3f} → {after:.3f}"
            cells.append(shown)
        before = _mean(rows, name, "naive", "accuracy_middle")
        best = "jointly" if name in _MAPPED else "activations"
        after = _mended(rows, name, best, "accuracy_middle")
        ends = np.mean([r["accuracy_ends"] for r in rows if r["model"] == name])
        accuracy = f"{before:.3f} → {after:.3f} ({ends:.3f})"
        lines.append(f"| {name} | {' | '.join(cells)} | {accuracy} |")
    return "\n".join(lines)


_LINES = {
    "naive": ("as they are", "C3-"),
    "weights": ("by weights", "C0-"),
    "activations": ("by activations", "C2-"),
    "jointly": ("by activations, and linear maps", "C4-"),
}


@in_style()
def _draw(rows: list[dict]) -> Figure:
    names = list(dict.fromkeys(row["model"] for row in rows))
    figure, grid = panels(len(names), 3, 2.0, sharex=True)
    for axes, name in zip(grid, names, strict=True):
        mine = [row for row in rows if row["model"] == name]
        methods = [m for m, value in mine[0].items() if isinstance(value, dict)]
        best = "jointly" if "jointly" in methods else "activations"
        chosen = [m for m in methods if m in _METHODS or m.startswith(best)]
        for method in chosen:
            losses = np.mean([row[method]["losses"] for row in mine], axis=0)
            label, style = _LINES[method.split(",")[0]]
            if method not in _METHODS:
                label, style = "mended (reset or repaired)", style[:2] + "--"
            axes.plot(np.linspace(0, 1, len(losses)), losses, style, label=label)
        axes.set(title=name, ylim=(0, None))
    label_below(grid, 3, "place between two networks")
    figure.supylabel("training loss", fontsize="medium")
    legend_below(figure, grid)
    return figure


if __name__ == "__main__":
    main()
