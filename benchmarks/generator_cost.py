"""What generators cost, and how a policy of two hidden layers of 256 units starts.

python benchmarks/generator_cost.py
"""

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _common import write
from _style import in_style, panels

from wsl.encoders import count_flops
from wsl.generators import ChunkedHyperNetwork, MLPHyperNetwork, SliceHyperNetwork


KINDS = (SliceHyperNetwork, ChunkedHyperNetwork, MLPHyperNetwork)
OBSERVATIONS = jr.normal(jr.key(2), (64, 8))


def make_policy(key):
    return eqx.nn.MLP(8, 2, 256, 2, jnp.tanh, key=key)


def main() -> None:
    targets = eqx.filter_jit(eqx.filter_vmap(make_policy))(jr.split(jr.key(3), 256))
    reference = float(jnp.mean(jnp.square(_outputs(targets))))
    costs = [_cost(kind) for kind in KINDS]
    starts = [_start(kind, size, reference) for kind in KINDS for size in (1, 8)]
    for row in (*costs, *starts):
        print(row)
    command = "python benchmarks/generator_cost.py"
    result = {"costs": costs, "starts": starts}
    write("generator_cost", command, result, _figure(costs, starts))


def _cost(kind) -> dict:
    began = time.perf_counter()
    generator = jax.block_until_ready(kind(make_policy, 1, key=jr.key(0)))
    construction = time.perf_counter() - began
    contexts = jr.normal(jr.key(1), (64, 1))
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        policies = _generate(generator, contexts)
        jax.block_until_ready(eqx.filter(policies, eqx.is_array))
        seconds.append(time.perf_counter() - began)
    parameters = jax.tree.leaves(eqx.filter(generator, eqx.is_inexact_array))
    return {
        "generator": kind.__name__,
        "parameters": sum(x.size for x in parameters),
        "flops": count_flops(generator, contexts[0]),
        "construction_seconds": construction,
        "seconds_64": min(seconds),
    }


def _start(kind, context_size: int, reference: float) -> dict:
    """How variance splits at the start: medians over five generators."""
    contexts = jr.normal(jr.key(1), (512, context_size))
    found = []
    for seed in range(5):
        generator = kind(make_policy, context_size, key=jr.key(seed))
        policies = _generate(generator, contexts)
        weight, outputs = policies.layers[1].weight, _outputs(policies)
        moment = jnp.mean(jnp.square(outputs))
        found.append(
            (
                jnp.mean(weight.var(0)) / weight.var(),
                jnp.mean(weight.reshape(len(weight), -1).var(1)) / weight.var(),
                jnp.mean(outputs.var(0)) / moment,
                moment / reference,
            )
        )
    names = (
        "weight_over_contexts",
        "weight_over_entries",
        "output_over_contexts",
        "output_moment",
    )
    table = np.asarray(found)
    return {
        "generator": kind.__name__,
        "context_size": context_size,
        **dict(zip(names, np.median(table, 0).tolist(), strict=True)),
        "output_moment_of_each": table[:, -1].tolist(),
    }


@eqx.filter_jit
def _generate(generator, contexts):
    return eqx.filter_vmap(generator)(contexts)


def _arrays(network):
    return jax.tree.leaves(eqx.filter(network, eqx.is_array))


@in_style()
def _figure(costs: list[dict], starts: list[dict]):
    figure, grid = panels(3, 3, 2.6)
    names = [row["generator"].replace("HyperNetwork", "") for row in costs]
    colours = dict(zip(names, ("tab:blue", "tab:orange", "tab:green"), strict=True))
    for axes, key, title in (
        (grid[0], "parameters", "parameters"),
        (grid[1], "seconds_64", "seconds for 64 policies"),
    ):
        axes.bar(names, [row[key] for row in costs], color=colours.values())
        axes.set_title(title)
        axes.grid(axis="x", visible=False)
    grid[0].set_yscale("log")
    for i, row in enumerate(starts):
        moments = row["output_moment_of_each"]
        colour = colours[row["generator"].replace("HyperNetwork", "")]
        grid[2].plot([i] * len(moments), moments, "o", alpha=0.6, ms=4, color=colour)
    sizes = [str(row["context_size"]) for row in starts]
    grid[2].set_xticks(range(len(starts)), sizes)
    grid[2].axhline(1, color="0.5", linewidth=1)
    grid[2].set_ylim(bottom=0)
    grid[2].set_xlabel("numbers of a context")
    grid[2].set_title("second moment, target 1")
    return figure


@eqx.filter_jit
def _outputs(policies):
    return eqx.filter_vmap(lambda policy: jax.vmap(policy)(OBSERVATIONS))(policies)


if __name__ == "__main__":
    main()
