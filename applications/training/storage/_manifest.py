import dataclasses
import functools
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from applications.settings import UserError
from wsl import __version__ as wsl_version


_FORMAT = "wsl-run 1"
_PACKAGES = ("jax", "jaxlib", "mujoco")
_CHECKOUT = Path(__file__).parents[3]


def software() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on.

    Returns:
        Versions by name, and the `commit` if the program runs from a git checkout.
    """
    found = {"python": platform.python_version(), "wsl": wsl_version}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    commit = _commit()
    return found if commit is None else found | {"commit": commit}


@functools.cache
def _commit() -> str | None:
    if not (_CHECKOUT / ".git").exists():
        return None
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return f"{commit} dirty" if commit and changes else commit


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_CHECKOUT), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a run says of itself in `config.json`.

    Attributes:
        algorithm: Name of the algorithm, such as `"epvf"`.
        settings: All settings by name, as JSON.
        software: Versions of what the run was begun with; `commit` names the checkout's
            commit, followed by `dirty` where files differed from it.
    """

    algorithm: str
    settings: dict[str, Any]
    software: dict[str, str] = dataclasses.field(default_factory=software)

    def to_json(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return {
            "format": _FORMAT,
            "algorithm": self.algorithm,
            "software": self.software,
            "settings": self.settings,
        }

    @classmethod
    def from_json(cls, content: Any, path: Path) -> "Manifest":
        """Checks and reads the content of `config.json`.

        Args:
            content: The parsed JSON.
            path: The file, for messages.

        Returns:
            The manifest.

        Raises:
            UserError: If the content is not of this format.
        """
        found = content.get("format") if isinstance(content, dict) else None
        if found != _FORMAT:
            raise UserError(
                f"{path} does not say {_FORMAT!r}: another version of this program "
                "wrote it, or another program. Start a new run."
            )
        parts = {"algorithm": str, "software": dict, "settings": dict}
        for name, kind in parts.items():
            if not isinstance(content.get(name), kind):
                raise UserError(f"{path} is damaged: it has no valid {name!r}.")
        return cls(content["algorithm"], content["settings"], content["software"])
