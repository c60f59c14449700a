"""Runs under a Python with `torch` and `nfn`: the same layers by that package.

Reads coefficients, inputs and outputs from an .npz file, prints a line of JSON.
"""

import argparse
import json
import resource
import statistics
import time
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from nfn.common import (  # pyright: ignore[reportMissingImports]
    network_spec_from_wsfeat,
    WeightSpaceFeatures,
)
from nfn.layers import HNPLinear, NPLinear  # pyright: ignore[reportMissingImports]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", required=True)
    parser.add_argument("--kind", choices=["NP", "HNP"], required=True)
    parser.add_argument("--layers", type=int, required=True)
    parser.add_argument("--chunk", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    data = np.load(arguments.file)
    depth = sum(name.startswith("in|w") for name in data.files)

    def features(prefix: str) -> WeightSpaceFeatures:
        # Theirs have channels first.
        def read(name):
            array = np.moveaxis(data[f"{prefix}|{name}"], -1, 1)
            return torch.from_numpy(np.ascontiguousarray(array))

        return WeightSpaceFeatures(
            [read(f"w{i}") for i in range(depth)], [read(f"b{i}") for i in range(depth)]
        )

    inputs = features("in")
    spec = network_spec_from_wsfeat(inputs)
    channels = inputs.weights[0].shape[1]
    make, fill = {"NP": (NPLinear, _fill_np), "HNP": (HNPLinear, _fill_hnp)}[
        arguments.kind
    ]
    layers = [make(spec, channels, channels) for _ in range(arguments.layers)]
    for i, layer in enumerate(layers):
        blocks = {
            name.split("|", 2)[2]: data[name]
            for name in data.files
            if name.startswith(f"coefficient|{i}|")
        }
        fill(layer, _Blocks(blocks, channels), inputs)

    def run(x: WeightSpaceFeatures) -> WeightSpaceFeatures:
        for i, layer in enumerate(layers):
            x = layer(x)
            if i < len(layers) - 1:
                x = x.map(torch.relu)
        return x

    with torch.no_grad():
        found, expected = run(inputs), features("out")
        pairs = zip(
            (*found.weights, *found.biases),
            (*expected.weights, *expected.biases),
            strict=True,
        )
        errors = [float((a - b).abs().max() / b.std()) for a, b in pairs]

    parameters = [p for layer in layers for p in layer.parameters()]
    batch = inputs.weights[0].shape[0]
    chunk = arguments.chunk or batch
    parts = [
        WeightSpaceFeatures(
            [w[i : i + chunk] for w in inputs.weights],
            [b[i : i + chunk] for b in inputs.biases],
        )
        for i in range(0, batch, chunk)
    ]

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        for part in parts:
            out = run(part)
            loss = sum((leaf**2).sum() for leaf in (*out.weights, *out.biases))
            (loss / batch).backward()

    resident = _resident()
    for _ in range(3):
        step()
    times, began = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - began < arguments.seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    growth = peak - resident
    print(
        json.dumps(
            {
                "step_ms": 1e3 * statistics.median(times),
                "repeats": len(times),
                "peak_mib": peak,
                "step_mib": growth,
                "largest_error": max(errors),
            }
        )
    )


def _resident() -> float:
    with open("/proc/self/status") as status:
        lines = [line for line in status if line.startswith("VmRSS")]
    return int(lines[0].split()[1]) / 1024


class _Blocks:
    """Our matrices by output, input and the slots they match."""

    def __init__(self, blocks: dict[str, np.ndarray], channels: int):
        self._blocks, self._channels = blocks, channels

    def __call__(self, into: str, out_of: str, slots: str = "") -> np.ndarray:
        """A matrix (inputs, outputs), channels before fixed indices as theirs are."""
        matrix = self._blocks[f"{into}|{out_of}|{slots}"]
        for axis in (0, 1):
            matrix = np.moveaxis(matrix, axis, 0)
            c = self._channels
            matrix = matrix.reshape(-1, c, matrix.shape[1]).swapaxes(0, 1)
            matrix = np.moveaxis(matrix.reshape(-1, matrix.shape[2]), 0, axis)
        return matrix


def _set(module: Any, *matrices: np.ndarray) -> None:
    matrix = np.concatenate(matrices).T
    with torch.no_grad():
        shape = module.weight.shape
        module.weight.copy_(torch.from_numpy(matrix.copy()).reshape(shape))
        module.bias.zero_()


def _fill_np(layer, get: _Blocks, inputs: WeightSpaceFeatures) -> None:
    depth = len(inputs)
    every = [f"w{j}" for j in range(depth)] + [f"b{j}" for j in range(depth)]
    for i in range(depth):
        weight, bias = f"w{i}", f"b{i}"
        _set(getattr(layer, f"layer_{i}"), get(weight, weight, "0-0,1-1"))
        rows = [get(weight, weight, "1-1")]
        if i > 0:
            rows += [get(weight, f"w{i - 1}", "1-0"), get(weight, f"b{i - 1}", "1-0")]
        _set(getattr(layer, f"layer_{i}_r"), *rows)
        for name, out in ((f"layer_{i}_c", weight), (f"bias_{i}", bias)):
            columns = [get(out, weight, "0-0"), get(out, bias, "0-0")]
            if i < depth - 1:
                columns.append(get(out, f"w{i + 1}", "0-1"))
            _set(getattr(layer, name), *columns)
        for name, out in ((f"layer_{i}_rc", weight), (f"bias_{i}_rc", bias)):
            _set(getattr(layer, name), *(get(out, source) for source in every))


def _fill_hnp(layer, get: _Blocks, inputs: WeightSpaceFeatures) -> None:
    depth, c = len(inputs), inputs.weights[0].shape[1]
    last = depth - 1
    n_out = inputs.weights[-1].shape[2]

    def pooled(out: str) -> list[np.ndarray]:
        # Theirs has the means over the fixed ends once more; they get no part.
        width = get(out, "b0").shape[1]
        none = np.zeros((c, width), np.float32)
        weights = [get(out, f"w{j}") if 0 < j < last else none for j in range(depth)]
        biases = [get(out, f"b{j}") if j < last else none for j in range(depth)]
        ends = [get(out, "w0"), get(out, f"w{last}"), get(out, f"b{last}")]
        assert ends[1].shape[0] == n_out * c
        return [*weights, *biases, *ends]

    for name, rest, out in (
        ("w0_rpt", "w0_rbdcst", "w0"),
        ("bias_0", "bias_0_rc", "b0"),
    ):
        own = [get(out, "w0", "0-0"), get(out, "w1", "0-1"), get(out, "b0", "0-0")]
        _set(getattr(layer, name), *own)
        _set(getattr(layer, rest), *pooled(out))
    end, before = f"w{last}", f"w{last - 1}"
    _set(layer.wfin_cpt, get(end, end, "0-0"), get(end, before, "0-0"))
    _set(layer.wfin_cbdcst, *pooled(end))
    _set(layer.bias_fin_rc, *pooled(f"b{last}"))
    for i in range(1, last):
        weight, bias = f"w{i}", f"b{i}"
        _set(getattr(layer, f"layer_{i}"), get(weight, weight, "0-0,1-1"))
        none = np.zeros((c, c), np.float32)
        rows = [
            get(weight, weight, "1-1"),
            get(weight, f"w{i - 1}", "1-0") if i > 1 else none,
            get(weight, f"b{i - 1}", "1-0"),
        ]
        if i == 1:
            rows.append(get(weight, "w0", "1-0"))
        _set(getattr(layer, f"layer_{i}_r"), *rows)
        for name, out in ((f"layer_{i}_c", weight), (f"bias_{i}", bias)):
            columns = [
                get(out, weight, "0-0"),
                get(out, bias, "0-0"),
                get(out, f"w{i + 1}", "0-1") if i < last - 1 else none,
            ]
            if i == last - 1:
                columns.append(get(out, end, "0-0"))
            _set(getattr(layer, name), *columns)
        for name, out in ((f"layer_{i}_rc", weight), (f"bias_{i}_rc", bias)):
            _set(getattr(layer, name), *pooled(out))


if __name__ == "__main__":
    main()
