"""Does the steps of one page, for the script `pages`, in the page's environment."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Goes through the plan, and stops at what fails."""
    namespace: dict[str, Any] = {"__name__": "page"}
    sys.path.insert(0, "")
    for step in json.loads(Path(sys.argv[1]).read_text()):
        if step["note"]:
            print(f"    {step['note']}", flush=True)
        if (error := do(step, namespace)) is not None:
            print(f"    FAILED\n{step['text']}\n{error}", flush=True)
            return 1
    return 0


def do(step: dict[str, str], namespace: dict[str, Any]) -> str | None:
    """Does a step; what was wrong with it, if anything."""
    kind, text = step["kind"], step["text"]
    if kind == "python" and step.get("file"):
        with open(step["file"], "a") as file:
            file.write(text + "\n\n")
    elif kind == "python":
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out):
                exec(compile(text, "page", "exec"), namespace)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        if step["shown"] and out.getvalue().strip() != step["shown"].strip():
            return f"printed:\n{out.getvalue()}"
    elif kind in ("command", "check"):
        text = re.sub(r"\.venv(-\w+)?/bin/", "", text)
        # A directory that the page has not spelled out to the end.
        if found := re.search(r"(runs/\S+?-)\.\.\.", text):
            last = max(Path().glob(f"{found[1]}*"), key=lambda x: x.stat().st_mtime)
            text = text.replace(found[0], str(last))
        flags = ["-n"] if kind == "check" else []
        done = subprocess.run(
            ["bash", *flags, "-c", text], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return (done.stdout + done.stderr)[-2000:]
    return None


if __name__ == "__main__":
    sys.exit(main())
