"""Measures one way to evaluate equivariant layers, in a process of its own.

Prints a line of JSON: seconds to trace and lower, and to compile; median time of a step
(loss and gradient for all coefficients); memory.
"""

import argparse
import json
import re
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _linear_terms import (
    apply_terms,
    count_terms,
    split_coefficients,
    stack_coefficients,
    unstack_coefficients,
)
from _weight_spaces import gru, perceptron, transformer

from wsl import WeightSpace
from wsl.nn import EquivariantLinear
from wsl.nn._linear_plan import make_plan


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--space", required=True)
    parser.add_argument("--channels", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--layers", type=int, required=True)
    parser.add_argument(
        "--way", choices=["ours", "terms", "stacked", "check", "export"]
    )
    parser.add_argument("--basis", default="full")
    parser.add_argument("--chunk", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--file", default="")
    arguments = parser.parse_args()
    space = find_space(arguments.space)
    # Without bias: neither term by term nor, in part, the package has our constants.
    layers = [
        EquivariantLinear(
            space,
            arguments.channels,
            arguments.channels,
            basis=arguments.basis,
            use_bias=False,
            key=jax.random.key(i),
        )
        for i in range(arguments.layers)
    ]
    batch = arguments.batch
    keys = jax.random.split(jax.random.key(99), max(len(space.leaves), 1))
    features = jax.tree.unflatten(
        space.treedef,
        [
            jax.random.normal(key, (batch, *leaf.shape, arguments.channels))
            for key, leaf in zip(keys, space.leaves, strict=False)
        ],
    )
    if arguments.way == "export":
        _export(Path(arguments.file), layers, features)
        result: dict[str, Any] = {}
    elif arguments.way == "check":
        result = _check(layers, features)
    else:
        result = _measure(
            layers, features, arguments.way, arguments.chunk or batch, arguments.seconds
        )
    result["leaves"] = len(space.leaves)
    result["num_terms"] = layers[0].num_terms
    if arguments.basis != "layer-tied":
        result["matrices"] = count_terms(layers[0])
    print(json.dumps(result))


def find_space(name: str) -> WeightSpace:
    """`gru`, `transformer:2`, `NP:34-64-64-8` or `HNP:...`."""
    kind, _, rest = name.partition(":")
    if kind == "gru":
        return gru()
    if kind == "transformer":
        return transformer(int(rest))
    return perceptron([int(size) for size in rest.split("-")], free=kind == "NP")


def _network(
    layers: list[EquivariantLinear], way: str
) -> tuple[Any, Callable[[Any, Any], Any]]:
    """Parameters, and a function of them and one set of features."""
    if way == "ours":
        parameters, static = eqx.partition(layers, eqx.is_array)
        applies = [
            lambda p, x, i=i: eqx.combine(p[i], static[i])(x)
            for i in range(len(layers))
        ]
    elif way == "stacked":
        parameters = [stack_coefficients(layer) for layer in layers]
        applies = [
            lambda p, x, i=i, layer=layer: apply_terms(
                layer, unstack_coefficients(layer, p[i]), x
            )
            for i, layer in enumerate(layers)
        ]
    else:
        parameters = [split_coefficients(layer) for layer in layers]
        applies = [
            lambda p, x, i=i, layer=layer: apply_terms(layer, p[i], x)
            for i, layer in enumerate(layers)
        ]

    def run(parameters, x):
        for i, apply in enumerate(applies):
            x = apply(parameters, x)
            if i < len(applies) - 1:
                x = jax.tree.map(jax.nn.relu, x)
        return x

    return parameters, run


def _measure(
    layers: list[EquivariantLinear], features: Any, way: str, chunk: int, seconds: float
) -> dict[str, Any]:
    parameters, run = _network(layers, way)
    batch = jax.tree.leaves(features)[0].shape[0]

    def loss(parameters, features):
        out = jax.vmap(lambda x: run(parameters, x))(features)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(out)) / batch

    def step(parameters, features):
        if chunk == batch:
            return jax.value_and_grad(loss)(parameters, features)
        parts = jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), features)

        def add(total, part):
            found = jax.value_and_grad(loss)(parameters, part)
            return jax.tree.map(jnp.add, total, found), None

        zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, parameters)
        return jax.lax.scan(add, zero, parts)[0]

    began = time.perf_counter()
    lowered = jax.jit(step).lower(parameters, features)
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    memory = compiled.memory_analysis()
    result = {
        "trace_s": traced - began,
        "compile_s": done - traced,
        "stablehlo_lines": lowered.as_text().count("\n"),
        "compile_peak_mib": _peak(),
        "temp_mib": memory.temp_size_in_bytes / 2**20 if memory else None,
    }
    _reset_peak()
    resident = _status("VmRSS")
    for _ in range(3):
        jax.block_until_ready(compiled(parameters, features))
    times, began = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        jax.block_until_ready(compiled(parameters, features))
        times.append(time.perf_counter() - start)
    return result | {
        "step_ms": 1e3 * statistics.median(times),
        "repeats": len(times),
        "peak_mib": _status("VmHWM"),
        "step_mib": _status("VmHWM") - resident,
    }


def _check(layers: list[EquivariantLinear], features: Any) -> dict[str, Any]:
    """The largest difference between all ways, in standard deviations of a leaf."""
    few = jax.tree.map(lambda x: x[:2], features)
    outputs = []
    for way in ("ours", "terms", "stacked"):
        parameters, run = _network(layers, way)
        outputs.append(
            jax.jit(jax.vmap(lambda x, p=parameters, run=run: run(p, x)))(few)
        )
    errors = [
        jax.tree.map(
            lambda a, b: float(jnp.abs(a - b).max() / b.std()), outputs[0], other
        )
        for other in outputs[1:]
    ]
    return {"largest_error": max(jax.tree.leaves(errors))}


def _export(path: Path, layers: list[EquivariantLinear], features: Any) -> None:
    """Coefficients by output, input and matched slots; inputs; outputs.

    Of networks with fixed ends the package has no term from the last hidden bias to the
    entries of the last weights: here that one is zero.
    """
    arrays, changed = {}, []
    for i, layer in enumerate(layers):
        space = layer.space
        plan = make_plan(space, "full", layer.in_channels, layer.out_channels)
        names = [re.sub(r"\W", "", leaf.path) for leaf in space.leaves]
        last = len(names) // 2 - 1
        matrices = []
        for matrix, rows, columns in zip(
            layer.coefficients, plan.rows, plan.columns, strict=True
        ):
            matrix, top = np.array(matrix), 0
            for row in rows:
                left = 0
                for column in columns:
                    block = matrix[top : top + row.width, left : left + column.width]
                    slots = ",".join(
                        f"{min(a)}-{min(b)}"
                        for a, b in sorted(
                            zip(column.kept, row.kept, strict=True),
                            key=lambda pair: min(pair[0]),
                        )
                    )
                    into, out_of = names[column.leaf], names[row.leaf]
                    if space.fixed and slots:
                        if (into, out_of) == (f"w{last}", f"b{last - 1}"):
                            block[:] = 0.0
                    arrays[f"coefficient|{i}|{into}|{out_of}|{slots}"] = block.copy()
                    left += column.width
                top += row.width
            matrices.append(jnp.asarray(matrix))
        changed.append(eqx.tree_at(lambda x: x.coefficients, layer, tuple(matrices)))
    parameters, run = _network(changed, "ours")
    outputs = jax.jit(jax.vmap(lambda x: run(parameters, x)))(features)
    for prefix, tree in (("in", features), ("out", outputs)):
        for name, leaf in tree.items():
            arrays[f"{prefix}|{name}"] = np.asarray(leaf)
    np.savez(path, **arrays)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def _reset_peak() -> None:
    """Lets VmHWM count from here, where the kernel allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


if __name__ == "__main__":
    main()
