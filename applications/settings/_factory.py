import importlib
import sys
from collections.abc import Callable
from typing import Any

from applications.settings._settings import UserError


def is_outside(name: str) -> bool:
    """Returns whether a name is `package.module:Factory` instead of a built-in one."""
    return ":" in name


def load_factory(name: str) -> Callable[..., Any]:
    """Imports what a user names from a package of their own.

    Modules in the current directory are found too, as with `python -m`.

    Args:
        name: `package.module:Factory`; the part after the colon may have dots.

    Returns:
        The factory.

    Raises:
        UserError: If the name has another form, there is no such module or attribute,
            or it cannot be called.
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise UserError(f"{name} must have the form package.module:Factory.")
    if "" not in sys.path:
        sys.path.append("")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{name}: there is no module {error.name!r}. Install its package here, or "
            "start in the directory that it lies in."
        ) from error
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise UserError(f"{name}: {module_name} has no {path}.")
        found = getattr(found, attribute)
    if not callable(found):
        raise UserError(f"{name} is no class or function.")
    return found
