"""Numbers in the prose of a page are those of its results.

A comment below a paragraph, a list or a table says where its numbers are from:

    64 networks take 0.06 s in slices, 0.07 s in chunks.

    <!-- numbers: 64, [row["seconds_64"] for row in generator_cost["costs"][:2]] -->

It is Python, and has a value for each number, in order. A name stands for the file
`docs/results/NAME.json`, and a literal for what was not measured. A number must be its
value, rounded as it is shown. Numbers in code, formulas and targets of links do not
count, nor do years and versions of Python.
"""

import ast
import json
import math
import re
import statistics
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest


_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"
_COMMENT = re.compile(r"<!-- numbers: (.*) -->", re.DOTALL)
_NUMBER = re.compile(
    r"(?<![\w.])(?:(?<![^\s(])-)?\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?(?![\w]|[.,]\d)"
)
# Their tables and sentences have tests of their own.
_ELSEWHERE = {"benchmark", "devices", "results"}
# Made by a script as a whole.
_ELSEWHERE |= {"reproduced"}
_PAGES = [
    _ROOT / "README.md",
    *(path for path in sorted(_DOCS.rglob("*.md")) if path.stem not in _ELSEWHERE),
]


def _results(name: str) -> Any:
    return json.loads((_DOCS / "results" / f"{name}.json").read_text())


def _blocks(text: str) -> list[str]:
    """What blank lines part, without code and tables that scripts have filled in."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    filled = r"<!-- (?!numbers: )[\w -]+ -->.*?<!-- end -->"
    text = re.sub(filled, "", text, flags=re.DOTALL)
    return [block.strip() for block in re.split(r"\n\s*\n", text) if block.strip()]


def _shown(block: str) -> list[str]:
    """The numbers that a reader sees in a block."""
    for hidden in (r"`[^`]*`", r"!\[[^\]]*\]\([^)]*\)", r"\]\([^)]*\)", r"\{ .*? \}"):
        block = re.sub(hidden, " _ ", block)
    block = re.sub(r"\$[^$]*\$|\\\(.*?\\\)", " _ ", block, flags=re.DOTALL)
    # Versions of Python, years of papers.
    block = re.sub(r"Python \d[\d., or]*|(?<=[a-z] )(19|20)\d\d\b", " _ ", block)
    return _NUMBER.findall(block)


def _values(source: str, results: Callable[[str], Any] = _results) -> list[float]:
    """What a comment says, one number after the other."""
    tree = ast.parse(f"[{source}]", mode="eval")
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    known: dict[str, Any] = {
        **{name: getattr(statistics, name) for name in ("mean", "median")},
        "last": lambda values, count: statistics.mean(values[-count:]),
        "row": _row,
    }
    for name in names - known.keys():
        if (_DOCS / "results" / f"{name}.json").is_file():
            known[name] = results(name)
    return list(_flat(eval(compile(tree, "numbers", "eval"), known)))


def _row(results: Any, *group: str) -> Any:
    """The row of a group in the table of results."""
    (row,) = [row for row in results["table"] if row["group"] == [*group]]
    return row


def _flat(values: Any) -> Iterator[float]:
    if isinstance(values, list | tuple):
        for value in values:
            yield from _flat(value)
    else:
        yield values


def _is_rounded(shown: str, value: float) -> bool:
    """Whether a number is the value, to the digits that it shows."""
    number = Decimal(shown.replace(",", ""))
    place = number.as_tuple().exponent
    assert isinstance(place, int)
    return math.isfinite(value) and (
        abs(Decimal(value) - number) <= Decimal("0.5000001").scaleb(place)
    )


def _check(passage: str, source: str, results: Callable[[str], Any] = _results) -> None:
    shown, values = _shown(passage), _values(source, results)
    assert len(shown) == len(values), (shown, values)
    wrong = [
        (one, value)
        for one, value in zip(shown, values, strict=True)
        if not _is_rounded(one, value)
    ]
    assert wrong == []


def _marked(text: str) -> list[tuple[str, str]]:
    """Passages with the comments below them."""
    blocks = _blocks(text)
    found = []
    for above, block in zip(blocks, blocks[1:], strict=False):
        comment = _COMMENT.fullmatch(block)
        if comment is not None:
            found.append((above, comment[1]))
    return found


def _unmarked(text: str) -> list[str]:
    """Passages with numbers and no comment, where a section shows results."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    found = []
    for section in re.split(r"^(?=#+ )", text, flags=re.MULTILINE):
        if re.search(r"\]\((?:docs/)?results/", section):
            blocks = _blocks(section)
            found += [
                block
                for block, below in zip(blocks, [*blocks[1:], ""], strict=True)
                if _shown(block) and not re.match(r"#|<!--", block)
                if not _COMMENT.fullmatch(below)
            ]
    return found


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_the_numbers_of_a_page(page):
    text = page.read_text()
    assert text.count("<!-- numbers: ") == len(_marked(text))
    for passage, source in _marked(text):
        _check(passage, source)
    assert _unmarked(text) == []


def test_pages_have_numbers():
    assert {"epvf", "generators", "symmetries", "zoo"} <= {
        page.stem for page in _PAGES if _marked(page.read_text())
    }


_PAGE = """\
## Cost

![Seconds](results/zoos.png)

`b` 7 and `c 8` take 0.06 s, 1,234 times (-2 to 7e-6).

<!-- numbers: 7, [x["s"] for x in zoos["rows"]], 1234.4, (-2, 6.8e-6) -->
"""


def test_numbers_by_hand():
    ((passage, source),) = _marked(_PAGE)
    assert _shown(passage) == ["7", "0.06", "1,234", "-2", "7e-6"]
    _check(passage, source, lambda name: {"rows": [{"s": 0.0551}]})
    assert _unmarked(_PAGE) == []


def test_a_number_that_is_not_in_the_results_is_noticed():
    ((passage, source),) = _marked(_PAGE)
    with pytest.raises(AssertionError, match=r"0\.06"):
        _check(passage, source, lambda name: {"rows": [{"s": 0.0751}]})
    with pytest.raises(AssertionError):
        _check(passage + " And 3.", source, lambda name: {"rows": [{"s": 0.0551}]})
    bare = _PAGE.partition("<!--")[0]
    assert _unmarked(bare) == [passage]
