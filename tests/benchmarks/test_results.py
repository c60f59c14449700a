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
