"""What the page of results says of layers and of matching is what their JSON has."""

import json
import re
from pathlib import Path
from typing import Any


_DOCS = Path(__file__).parents[2] / "docs"
_PAGE = (_DOCS / "results.md").read_text()


def _content(name: str) -> dict[str, Any]:
    return json.loads((_DOCS / "results" / f"{name}.json").read_text())


def _digits(x: float | None) -> str:
    return "" if x is None else f"{x:.3g}"


def _least(ways: dict[str, dict[str, Any]], name: str, key: str) -> float | None:
    """The least over whole batches and chunks."""
    found = [ways[way].get(key) for way in ways if way.partition(":")[0] == name]
    return min((x for x in found if x is not None), default=None)


def _cases() -> dict[str, dict[str, Any]]:
    return {
        one["name"]: {
            "number": one["ways"]["ours"]["num_terms"],
            "compile": one["ways"]["ours"]["compile_s"],
            "compile by terms": one["ways"]["terms"].get("compile_s"),
            **{
                way: _least(one["ways"], way, "step_ms")
                for way in ("ours", "terms", "nfn")
            },
        }
        for one in _content("equivariant_linear")["cases"]
    }


def _table() -> dict[str, list[str]]:
    section = _PAGE.split("| Weight space |")[1].split("\n\n")[0]
    rows = [line.split("|")[1:-1] for line in section.splitlines()[2:]]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_the_table_of_layers():
    table, cases = _table(), _cases()
    assert table.keys() == cases.keys()
    for name, row in table.items():
        case = cases[name]
        late = "over 240" if case["compile by terms"] is None else None
        assert row == [
            f"{case['number']:,}",
            _digits(case["compile"]),
            late or _digits(case["compile by terms"]),
            *(_digits(case[way]) for way in ("ours", "terms", "nfn")),
        ], name


def _said(section: str) -> list[str]:
    """Numbers with a decimal point, in the order of the text."""
    return re.findall(r"\d+\.\d+", section)


def test_the_ratios_of_layers():
    cases = _cases()

    def ratio(name: str, way: str) -> str:
        return f"{cases[name][way] / cases[name]['ours']:.1f}"

    def compiled(name: str) -> str:
        return f"{cases[name]['compile by terms'] / cases[name]['compile']:.1f}"

    terms = _PAGE.split("**Against term by term.**")[1].split("\n\n")[0]
    two, eight = "transformer, 2 blocks", "MLP, L = 8"
    assert _said(terms) == [
        *(compiled(two), ratio(two, "terms")),
        _digits(cases["transformer, 4 blocks"]["compile"]),
        *(compiled(eight), ratio(eight, "terms")),
    ]
    nfn = _PAGE.split("**Against `nfn`.**")[1].split("\n\n")[0]
    spaces = [
        *("MLP, L = 2", "MLP, L = 4", "MLP, L = 8"),
        *("SIREN 2-24-24-1, NP", "SIREN 2-24-24-1, HNP"),
        *("policy 34-64-64-8, NP", "policy 34-64-64-8, HNP", "784-128-10, NP"),
    ]
    assert _said(nfn) == [ratio(name, "nfn") for name in spaces]


def test_the_variance_through_layers():
    told = _PAGE.split("**Variance.**")[1].split("\n\n")[0]
    rows = _content("equivariant_linear")["variance_of_eight_layers"]
    ends = []
    for channels in (32, 8):
        found = [x for r in rows if r["channels"] == channels for x in r["variances"]]
        ends += [f"{min(found):.2g}", f"{max(found):.2g}"]
    assert _said(told) == ends


def test_matching():
    told = _PAGE.split("## Matching weights")[1].split("\n## ")[0]
    rows = {
        (row["method"], row["noise"]): row["recovered"]
        for row in _content("match_weights")["rows"]
        if (row["width"], row["hidden"], row["trials"]) == (30, 50, 100)
    }
    assert rows["coordinate descent, one random start", 0.0] == 15
    assert "recovers 15." in told
    ours = [rows["wsl.match_weights", noise] for noise in (0.0, 0.1, 0.3, 1.0, 2.0)]
    assert ours == [100, 100, 100, 100, 0]
    assert "recovers all 100" in told and "recovers none" in told


def test_what_the_benchmark_says_in_words():
    table = {
        (row["task"], row["encoder"]): row for row in _content("offline_zoo")["table"]
    }
    page = (_DOCS / "benchmark.md").read_text()
    section = page.split("## What the tables say")[1].split("\n## ")[0]

    def accuracy(task: str, *names: str) -> list[str]:
        return [f"{table[task, name]['accuracy']:.2f}" for name in names]

    own = "forward-graph-own"
    digits, ladder, rest = re.split(r"\*\*The ladder|\*\*Sines", section)
    assert _said(digits) == [
        *accuracy("digits-inr", "probing", "forward-graph"),
        *accuracy("digits-inr", "interactive-probing", own),
        *accuracy("digits-inr-10", "forward-graph", own, "probing", "pixels"),
        f"{table['digits-inr', 'nfn-np']['accuracy']:.3f}",
        *accuracy("digits-inr", "transformer"),
        *accuracy("digits-inr-shuffled", "equivariant-np"),
    ]
    assert _said(ladder) == [
        *accuracy("digits-inr-shared", "flat"),
        *accuracy("digits-inr-shuffled", "flat", "flat-matched", "statistics"),
        *accuracy("digits-inr-shuffled", "forward-graph"),
    ]
    names = ["learned-validation-set", "equivariant-np", "nfn-np", "statistics"]
    names.append("real-pictures")
    assert _said(rest) == [f"{table['digits-mlp', name]['tau']:.2f}" for name in names]
    errors = sorted(
        row["mse"]
        for (task, name), row in table.items()
        if task == "dilation" and name != "pixels"
    )
    assert 1.9 < errors[1] / errors[0] < 2.3


_DEVICES = (_DOCS / "devices.md").read_text()


def test_what_devices_cost_in_words():
    found = _content("devices")["measured"]
    sent = _DEVICES.split("\n- **Bytes.**")[1].split("The following table")[0]
    one, two = (round(x["steps_per_second"], -2) for x in found["training"])
    small, large = found["gather"]
    observations = 34
    assert found["bytes_of_a_policy"] == 13 + 12 * observations
    for told in (
        f"{found['bytes_of_a_policy']} bytes, and {small['bytes'] / 1e6:.1f} MB",
        f"gathers {found['bytes_in_program']['gathered']:,} bytes",
        f"{1e3 * small['seconds']:.0f} ms for {small['bytes'] / 1e6:.1f} MB",
        f"{1e3 * large['seconds']:.0f} ms for {large['bytes'] / 1e6:.1f} MB",
        f"{round(found['rollout_steps_per_second'], -3):,.0f} control steps",
        f"makes {one:,.0f} steps a second in one process",
        f"{two:,.0f} in two processes",
        f"{found['learn_seconds']['256']:.2f} s an iteration with 256",
        f"{found['learn_seconds']['512']:.1f} s with 512",
    ):
        assert told in " ".join(sent.split()), told


def test_the_projection():
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) \| (.*) \|$", _DEVICES, re.M)
    projected = _content("devices")["projected"]
    assert len(rows) == len(projected)
    for (policies, devices, rest), row in zip(rows, projected, strict=True):
        assert int(policies.replace(",", "")) == row["policies"]
        assert int(devices) == row["devices"]
        rollout, learning, *_, iteration, hours = (
            float(x.replace(",", "")) for x in rest.split(" | ")
        )
        for shown, exact in (
            (rollout, row["rollout_seconds"]),
            (learning, row["learn_seconds"]),
            (iteration, row["iteration_seconds"]),
            (hours, row["device_hours_of_1000_iterations"]),
        ):
            assert abs(shown - exact) <= 0.006 * exact
