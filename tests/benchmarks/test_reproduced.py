"""The page of claims: its rows follow from the results, and so do its verdicts."""

import importlib
import sys
from pathlib import Path

import pytest


_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs" / "reproduced.md").read_text()


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(_ROOT / "benchmarks"))
    yield importlib.import_module("reproduced")
    for name in ("reproduced", "_findings", "_common"):
        sys.modules.pop(name, None)


@pytest.fixture
def findings(script):
    return sys.modules["_findings"]


def test_the_page_says_what_the_results_say(script):
    for name, claims in script.CLAIMS.items():
        shown = _PAGE.split(f"<!-- {name} -->")[1].split("<!-- end -->")[0].strip()
        assert shown == script.table(claims), "run benchmarks/reproduced.py"


def test_every_verdict_is_linked_to_its_numbers(script):
    for claims in script.CLAIMS.values():
        for one in claims:
            there = (_ROOT / "docs" / "results" / f"{one.results}.json").is_file()
            (row,) = [x for x in _PAGE.splitlines() if x.startswith(f"| {one.claim} |")]
            assert f"`{one.script}`" in row
            assert (_ROOT / "benchmarks" / one.script).is_file()
            assert there or "not measured yet" in row


def _row(task: str, name: str, *returns: float) -> dict:
    middle = sum(returns) / len(returns)
    return {
        "group": [task, name],
        "mean_returns": returns,
        "interquartile_mean": middle,
        "env_steps": 100.0 * len(name),
    }


@pytest.mark.parametrize(
    ("own", "other", "verdict"),
    [((9.0, 11.0), (10.0, 10.0), "yes"), ((9.0, 9.0), (10.0, 10.0), "no")],
)
def test_a_comparison_by_hand(findings, own, other, verdict):
    content = {"table": [_row("a", "x", *own), _row("a", "y", *other)]}
    found = findings.against(content, "x", ("y",))
    assert found.verdict == verdict and found.seeds == 2
    # Nobody is matched who was not measured.
    missing = findings.against(content, "x", ("y", "z"))
    assert missing.verdict == ("partly" if verdict == "yes" else "no")
    assert "Z not measured" in missing.ours


@pytest.mark.parametrize(
    ("seconds", "verdict"), [((5.0, 9.0), "yes"), ((5.0, 1.0), "partly")]
)
def test_equal_cost_by_hand(findings, seconds, verdict):
    def row(name: str, steps: float | None, *by_seconds: float | None) -> dict:
        made: dict = {"group": ["a", name], "seeds": [0, 1]}
        for cost, means in {"env_steps": [steps], "seconds": by_seconds}.items():
            made[cost] = [
                {"budget": 10 * (i + 1), "interquartile_mean": mean}
                for i, mean in enumerate(means)
            ]
        return made

    # At 20 seconds one has ended, so that 10 count.
    content = {"table": [row("x", 3.0, *reversed(seconds)), row("y", 2.0, 4.0, None)]}
    found = findings.at_equal_cost(content, "x", ("y",))
    assert (found.verdict, found.seeds) == (verdict, 2)
    own = round(seconds[1])
    assert found.ours == f"`a`, 10 seconds: {own} (Y 4); `a`, 10 steps: 3 (Y 2)"


def test_a_clip_that_never_acts_proves_nothing(findings):
    rows = [_row("a", "as-it-is", 5.0), _row("a", "no-clip", 5.0)]
    rows[1]["env_steps"] = rows[0]["env_steps"]
    assert findings.without_clip({"table": rows}).verdict == "not decided"
    rows += [_row("b", "as-it-is", 5.0), _row("b", "no-clip", 1.0)]
    found = findings.without_clip({"table": rows})
    assert found.verdict == "yes"
    assert "`a`: the clip never acts" in found.ours


def test_crucial_states_that_any_others_could_be(findings):
    def rows(learned: float, random: float) -> list[dict]:
        names = {"learned by V": learned, "random": random}
        return [
            {"seed": 0, "teacher": 10.0, "count": 3, "states": name, "returns": [x]}
            for name, x in names.items()
        ]

    for values, verdict in {(10, 2): "yes", (10, 10): "partly", (2, 2): "no"}.items():
        assert findings.crucial({"rows": rows(*values)}).verdict == verdict


@pytest.mark.parametrize(
    ("base", "other", "verdict"),
    [
        ([900.0, 1000.0], [500.0, 600.0], "yes"),
        ([900.0, 1000.0], [920.0, 990.0], "no"),
        # Nothing can be better than the best, and the same runs say nothing.
        ([1000.0, 1000.0], [1000.0, 1000.0], "not decided"),
    ],
)
def test_the_clip_by_hand(findings, base, other, verdict):
    def row(name, returns, steps):
        middle = sum(returns) / len(returns)
        return {
            "group": ["pendulum", name],
            "mean_returns": returns,
            "interquartile_mean": middle,
            "env_steps": steps,
        }

    table = [row("as-it-is", base, 10), row("no-clip", other, 20)]
    assert findings.without_clip({"table": table}).verdict == verdict
