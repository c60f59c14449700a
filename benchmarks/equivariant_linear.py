"""`EquivariantLinear` against its terms one by one, and against the package `nfn`.

python benchmarks/equivariant_linear.py --nfn-python PATH

PATH is a Python with numpy, torch 2.13.0 and nfn 0.1.2 (install torch first). Every
measurement is a process of its own, and all ways of one case follow each other.
`--quick` measures small cases briefly, to try the script; `--only NAME` measures the
cases whose names hold it anew and keeps the others.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from _common import RESULTS, ROOT, write
from _linear_figure import draw, print_table


class Case(NamedTuple):
    """One weight space, and the layers on it.

    `ways`: "ours"; "terms", each with a matrix that is a parameter of its own;
    "stacked", the same with one parameter for each leaf, as UNF has it; "nfn"; other
    bases. A number after a colon is the size of the chunks in which a step goes through
    the batch, adding up gradients.
    """

    name: str
    space: str
    channels: int
    batch: int
    layers: int
    ways: tuple[str, ...]


_TERMS = ("ours", "terms", "stacked")
_ALL = (*_TERMS, "nfn")
_CHUNKS = ("ours", "ours:8", "terms", "terms:8", "nfn", "nfn:8")
_CASES = [
    Case("MLP, L = 2", "NP:16-16-16", 8, 8, 2, _ALL),
    Case("MLP, L = 4", "NP:16-16-16-16-16", 8, 8, 2, _ALL),
    Case(
        "MLP, L = 8",
        "NP:" + "-".join(["16"] * 9),
        8,
        8,
        2,
        (*_ALL, "near-neighbour", "layer-tied"),
    ),
    Case("policy 34-64-64-8, NP", "NP:34-64-64-8", 16, 64, 3, _CHUNKS),
    Case("policy 34-64-64-8, HNP", "HNP:34-64-64-8", 16, 64, 3, _CHUNKS),
    Case("SIREN 2-24-24-1, NP", "NP:2-24-24-1", 32, 64, 3, _CHUNKS),
    Case("SIREN 2-24-24-1, HNP", "HNP:2-24-24-1", 32, 64, 3, _CHUNKS),
    Case("784-128-10, NP", "NP:784-128-10", 8, 8, 2, (*_ALL, "ours:1", "nfn:1")),
    Case("784-128-10, HNP", "HNP:784-128-10", 2, 8, 2, ("ours", "terms")),
    Case("GRU 8-32-4", "gru", 8, 8, 2, _TERMS),
    Case("transformer, 1 block", "transformer:1", 8, 8, 2, _TERMS),
    Case("transformer, 2 blocks", "transformer:2", 8, 8, 2, ("ours", "terms")),
    Case("transformer, 4 blocks", "transformer:4", 8, 8, 2, ("ours", "terms")),
]
_QUICK = [
    Case("MLP, L = 2", "NP:4-4-4", 2, 4, 2, (*_ALL, "near-neighbour", "layer-tied")),
    Case("SIREN, HNP", "HNP:2-6-6-1", 4, 8, 3, ("ours", "ours:4", "nfn", "nfn:4")),
    Case("GRU 8-32-4", "gru", 2, 2, 1, _TERMS),
]
_KEYS = ("trace_s", "compile_s", "step_ms", "step_mib", "peak_mib", "temp_mib")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nfn-python", default="")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cap", type=float, default=240.0)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", default="", help="Measure these cases anew.")
    arguments = parser.parse_args()
    cases = _QUICK if arguments.quick else _CASES
    known = {}
    if arguments.only:
        cases = [case for case in cases if arguments.only in case.name]
        record = json.loads((RESULTS / "equivariant_linear.json").read_text())
        known = {result["name"]: result for result in record["cases"]}
    seconds = 0.3 if arguments.quick else arguments.seconds
    results = []
    for case in cases:
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in case.ways}
        result: dict[str, Any] = {"name": case.name, **case._asdict()}
        del result["ways"]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "layers.npz"
            if "terms" in case.ways:
                check = _jax(case, arguments.cap, "--way", "check")
                result["largest_error_terms"] = check.get("largest_error")
            if arguments.nfn_python and "nfn" in case.ways:
                _jax(case, arguments.cap, "--way", "export", "--file", str(file))
            # Turn and turn about, so that what else the machine does hits all alike.
            for repeat in range(arguments.repeats):
                for way in case.ways:
                    if way.startswith("nfn") and not arguments.nfn_python:
                        continue
                    if repeat and "capped" in runs[way][0]:
                        continue
                    found = _measure(case, way, file, seconds, arguments)
                    runs[way].append(found)
                    print(f"{case.name}: {way}: {_short(found)}", flush=True)
        result["repeats"] = arguments.repeats
        result["ways"] = {way: _summary(found) for way, found in runs.items() if found}
        results.append(result)
    if known:
        known.update({result["name"]: result for result in results})
        results = list(known.values())
    print_table(results)
    if not arguments.quick:
        record = {
            "cap_seconds": arguments.cap,
            "nfn": _versions(arguments.nfn_python),
            "variance_of_eight_layers": _variances(),
            "cases": results,
        }
        command = (
            "python benchmarks/equivariant_linear.py --nfn-python PATH "
            f"--repeats {arguments.repeats}"
        )
        write("equivariant_linear", command, record, draw(results))


def _measure(
    case: Case, way: str, file: Path, seconds: float, arguments: argparse.Namespace
) -> dict[str, Any]:
    name, _, chunk = way.partition(":")
    options = ["--seconds", str(seconds), "--chunk", chunk or "0"]
    if name == "nfn":
        kind = case.space.partition(":")[0]
        command = [arguments.nfn_python, str(ROOT / "benchmarks" / "_linear_nfn.py")]
        command += ["--file", str(file), "--kind", kind, "--layers", str(case.layers)]
        return _run([*command, *options], arguments.cap)
    if name in ("near-neighbour", "layer-tied"):
        options += ["--basis", name]
        name = "ours"
    return _jax(case, arguments.cap, "--way", name, *options)


def _jax(case: Case, cap: float, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "benchmarks" / "_linear_measure.py")]
    for name in ("space", "channels", "batch", "layers"):
        command += [f"--{name}", str(getattr(case, name))]
    return _run([*command, *options], cap)


def _run(command: list[str], cap: float) -> Any:
    try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=cap
        )
    except subprocess.TimeoutExpired:
        return {"capped": cap}
    except subprocess.CalledProcessError as error:
        print(error.stderr, file=sys.stderr)
        raise
    return json.loads(done.stdout.splitlines()[-1])


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of times those of the least disturbed run; of memory the median."""
    result = dict(runs[0])
    for key in _KEYS:
        if key in result:
            values = [float(f"{run[key]:.4g}") for run in runs]
            is_memory = key.endswith("mib")
            result[key] = statistics.median(values) if is_memory else min(values)
            if not is_memory:
                result[f"{key}_of_each_run"] = values
    return result


def _short(found: dict[str, Any]) -> str:
    if "capped" in found:
        return f"not done after {found['capped']:.0f} s"
    return ", ".join(f"{key} {found[key]:.3g}" for key in _KEYS if key in found)


def _variances() -> Any:
    return _run(
        [sys.executable, str(ROOT / "benchmarks" / "_linear_variance.py")], 600.0
    )


def _versions(python: str) -> dict[str, str]:
    if not python:
        return {}
    script = (
        "import json; from importlib.metadata import version;"
        "print(json.dumps({n: version(n) for n in ('torch', 'nfn', 'numpy')}))"
    )
    done = subprocess.run([python, "-c", script], capture_output=True, text=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
