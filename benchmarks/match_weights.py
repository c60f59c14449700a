"""Known permutations of residual networks: how many does weight matching find again?

The networks are those of https://github.com/samuela/git-re-basin/issues/8, where 10 of
100 were found: residual blocks of width d1 with d2 hidden units, normal weights and
biases, and nothing before or after the blocks that would tell units of the residual
stream apart. `a` is a permuted copy of `b`, with or without noise.

OPENBLAS_NUM_THREADS=1 python benchmarks/match_weights.py
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from _common import write
from _style import in_style, legend_below, panels
from matplotlib.figure import Figure

import wsl


_SIZES = ((3, 5, 2), (30, 50, 2), (64, 128, 4))  # d1, d2, blocks
_NOISE = (0.0, 0.1, 0.3, 1.0, 2.0)  # In units of a weight's standard deviation.
_METHODS = {
    "coordinate descent, one random start": {"num_restarts": 1, "informed": False},
    "coordinate descent, ten random starts": {"num_restarts": 10, "informed": False},
    "wsl.match_weights": {},
    "wsl.match_weights, no random starts": {"num_restarts": 0},
}


def _space(width: int, hidden: int, blocks: int) -> wsl.WeightSpace:
    weights, spec = {}, {}
    for i in range(blocks):
        leaves = {
            f"rise{i}.weight": ((hidden, width), (f"hidden{i}", "stream")),
            f"rise{i}.bias": ((hidden,), (f"hidden{i}",)),
            f"fall{i}.weight": ((width, hidden), ("stream", f"hidden{i}")),
            f"fall{i}.bias": ((width,), ("stream",)),
        }
        for name, (shape, axes) in leaves.items():
            weights[name] = jax.ShapeDtypeStruct(shape, jnp.float32)
            spec[f"['{name}']"] = axes
    return wsl.WeightSpace.from_spec(weights, spec)


def _trial(space: wsl.WeightSpace, noise: float, seed: int) -> dict[str, tuple]:
    """For each method: the element recovered, at least as close as it, seconds."""
    random = np.random.default_rng(seed)

    def draw() -> dict:
        leaves = [random.standard_normal(leaf.shape) for leaf in space.leaves]
        leaves = [jnp.asarray(leaf, jnp.float32) for leaf in leaves]
        return jax.tree.unflatten(space.treedef, leaves)

    b, noises = draw(), draw()
    element = space.sample(key=jax.random.key(seed))
    moved = space.permute(b, element)
    a = jax.tree.map(lambda leaf, other: leaf + noise * other, moved, noises)
    distance = float(jnp.linalg.norm(space.flatten(a) - space.flatten(moved)))
    results = {}
    for name, options in _METHODS.items():
        began = time.perf_counter()
        match = wsl.match_weights(space, a, b, key=jax.random.key(seed), **options)
        seconds = time.perf_counter() - began
        same = all(
            np.array_equal(match.element[group], element[group])
            for group in space.groups
        )
        close = match.distance <= distance * (1 + 1e-5) + 1e-5
        results[name] = (same, close, seconds)
    return results


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=100)
    trials = parser.parse_args().trials
    rows = []
    for size in _SIZES:
        space = _space(*size)
        for noise in _NOISE:
            found = [_trial(space, noise, seed) for seed in range(trials)]
            for name in _METHODS:
                same, close, seconds = zip(*(f[name] for f in found), strict=True)
                row = {
                    **dict(zip(("width", "hidden", "blocks"), size, strict=True)),
                    "noise": noise,
                    "method": name,
                    "trials": trials,
                    "recovered": sum(same),
                    "as_close_or_closer": int(sum(close)),
                    "median_seconds": round(float(np.median(seconds)), 4),
                }
                rows.append(row)
                print(*row.values(), flush=True)
    write(
        "match_weights",
        "OPENBLAS_NUM_THREADS=1 python benchmarks/match_weights.py",
        {"rows": rows},
        _draw(rows, trials),
    )


@in_style()
def _draw(rows: list[dict], trials: int) -> Figure:
    figure, grid = panels(len(_SIZES), 3, 2.6, sharey=True)
    for axes, (width, hidden, blocks) in zip(grid, _SIZES, strict=True):
        for name, style in zip(_METHODS, ("o-", "s-", "^-", "x:"), strict=True):
            chosen = [
                row for row in rows if (row["method"], row["width"]) == (name, width)
            ]
            noise, recovered = (
                [row[key] for row in chosen] for key in ("noise", "recovered")
            )
            axes.plot(noise, recovered, style, label=name)
        axes.set(title=f"{blocks} blocks, {width}-{hidden}-{width}", xlabel="noise")
    grid[0].set(ylabel=f"recovered, of {trials}", ylim=(-3, trials * 1.03))
    legend_below(figure, grid, ncols=2)
    figure.suptitle("Permutations of residual networks found again")
    return figure


if __name__ == "__main__":
    main()
