"""Notebooks are their pages, and run to the output that they show."""

import contextlib
import importlib.util
import io
import json
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import jax
import pytest


_ROOT = Path(__file__).parents[1]
_EXAMPLES = _ROOT / "examples"


def _script() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("make", _EXAMPLES / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = _script()


@pytest.mark.parametrize("page", make.PAGES)
def test_a_notebook_is_its_page(page):
    file = _EXAMPLES / f"{page}.ipynb"
    assert file.read_text() == make.as_file(page), "Run: python examples/make.py"
    text = (_ROOT / "docs" / f"{page}.md").read_text()
    assert f"](../examples/{page}.ipynb)" in text
    title = text.splitlines()[0].removeprefix("# ")
    row = f"| [`{page}.ipynb`]({page}.ipynb) | [{title}](../docs/{page}.md) |"
    assert row in (_EXAMPLES / "README.md").read_text()


def test_there_is_no_other_notebook():
    assert {path.stem for path in _EXAMPLES.glob("*.ipynb")} == make.PAGES.keys()


_PAGE = """\
# A title

See [this](zoo.md#your-own) and [that](https://a.b/c.md).

```python title="mine/a.py"
a = 1
```

<!-- numbers: 1 -->

```python title="mine/a.py"
b = 2
```

```console
$ .venv/bin/python -m this
```

```python
print(3)
```

```text
3
```

The page is also
[a notebook](../examples/it.ipynb).
"""


def test_a_notebook_by_hand():
    cells = make.notebook(_PAGE, run_commands=True)["cells"]
    found = ["".join(cell["source"]) for cell in cells]
    assert found == [
        "# A title\n\nSee [this](../docs/zoo.md#your-own) and [that](https://a.b/c.md).",
        "%%writefile mine/a.py\na = 1\n",
        "%%writefile -a mine/a.py\n\n\n\nb = 2\n",
        "!python -m this",
        "print(3)",
        "This notebook is made from [a page of the docs](../docs/it.md).",
    ]
    assert cells[4]["outputs"][0]["text"] == ["3\n"]
    shown = make.notebook(_PAGE, run_commands=False)["cells"]
    assert "$ .venv/bin/python -m this" in "".join(shown[3]["source"])


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module.split(".")[0]) is not None


def run_cell(source: str, namespace: dict[str, Any]) -> str:
    """What a cell prints, run as Jupyter would, as far as notebooks here need it."""
    first, _, rest = source.partition("\n")
    if first.startswith("%%writefile"):
        *flags, name = first.split()[1:]
        with open(name, "a" if flags else "w") as file:
            file.write(rest)
        return ""
    if first.startswith("!"):
        for line in source.replace("\\\n", " ").splitlines():
            command = shlex.split(line[1:])
            if command[0] == "python":
                command[0] = sys.executable
            subprocess.run(command, check=True, capture_output=True)
        return ""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(source, "cell", "exec"), namespace)
    return out.getvalue()


@pytest.mark.nightly
@pytest.mark.parametrize("page", make.PAGES)
def test_a_notebook_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(_ROOT))
    cells = json.loads((_EXAMPLES / f"{page}.ipynb").read_text())["cells"]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    try:
        # A guide is written for JAX as it comes.
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            for cell in cells:
                source = "".join(cell["source"])
                wanted = re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)
                # torch is not in every environment that the tests run in.
                if cell["cell_type"] != "code" or not all(map(_is_there, wanted)):
                    continue
                shown = "".join("".join(x["text"]) for x in cell["outputs"])
                assert run_cell(source, namespace).strip() == shown.strip()
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
            del sys.modules[name]
