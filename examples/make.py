"""Writes the notebooks beside this file, from pages of the docs.

A notebook has the text, the programs and the output of its page, and nothing else: to
change one, change the page, and run

    python examples/make.py
"""

import json
import re
from pathlib import Path
from typing import Any


_HERE = Path(__file__).parent
_DOCS = _HERE.parent / "docs"
# Of each page: whether its commands are cells too, or only shown.
PAGES = {
    "networks": False,
    "own": True,
    "merging": False,
    "context": False,
    "export": False,
}
_BLOCK = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<file>[^"]+)")?\n(?P<body>.*?)^```$',
    re.DOTALL | re.MULTILINE,
)

_ORIGIN = r"This notebook is made from [a page of the docs](../docs/\1.md)."


def notebook(text: str, *, run_commands: bool) -> dict[str, Any]:
    """A page as a notebook.

    Args:
        text: The page, in Markdown.
        run_commands: Whether commands become cells; else they stay text.

    Returns:
        The content of the notebook's file, format 4.5.
    """
    cells: list[dict[str, Any]] = []
    written: set[str] = set()
    shown = ""

    def close() -> None:
        nonlocal shown
        if prose := _prose(shown):
            cells.append({"cell_type": "markdown", "source": prose})
        shown = ""

    end = 0
    for block in _BLOCK.finditer(text):
        shown += text[end : block.start()]
        end = block.end()
        language, file, body = block["language"], block["file"], block["body"].strip()
        if language in ("python", "py"):
            close()
            if file:
                first = file not in written
                magic = "%%writefile" if first else "%%writefile -a"
                # Two empty lines between what goes into one file.
                body = f"{magic} {file}\n{'' if first else chr(10) * 3}{body}\n"
                written.add(file)
            cells.append(_code(body))
        elif language == "text" and not shown.strip():
            cells[-1]["outputs"] = [
                {"name": "stdout", "output_type": "stream", "text": _lines(body + "\n")}
            ]
        elif language == "console" and run_commands:
            close()
            cells.append(_code(re.sub(r"^\$ (?:\.venv/bin/)?", "!", body, flags=re.M)))
        else:
            shown += block[0]
    shown += text[end:]
    close()
    for i, cell in enumerate(cells):
        cell |= {"id": f"cell-{i}", "metadata": {}, "source": _lines(cell["source"])}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _code(source: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "outputs": [],
        "source": source,
    }


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _prose(text: str) -> str:
    """Markdown as notebooks show it: no comments, links from this directory."""
    text = re.sub(r"<!--.*?-->\n*", "", text, flags=re.DOTALL)
    text = re.sub(r"The page is also\s+\[[^]]*\]\(\S*/(\w+)\.ipynb\)\.", _ORIGIN, text)
    text = re.sub(r"\]\((?!#|\w+:)([\w/]+\.(?:md|png|json))", r"](../docs/\1", text)
    return text.strip()


def as_file(page: str) -> str:
    """What the file of a page's notebook has to be."""
    text = (_DOCS / f"{page}.md").read_text()
    content = notebook(text, run_commands=PAGES[page])
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    """Writes all of them."""
    for page in PAGES:
        (_HERE / f"{page}.ipynb").write_text(as_file(page))
        print(f"Written: examples/{page}.ipynb")


if __name__ == "__main__":
    main()
