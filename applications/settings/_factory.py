import importlib
import inspect
import os
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
        The class or function.

    Raises:
        UserError: If the name has another form, there is no such module or attribute,
            or it cannot be called.
    """
    module, _, path = name.partition(":")
    if not module or not path:
        raise UserError(f"{name} must have the form package.module:Factory.")
    found = _import(name, module)
    for part in path.split("."):
        if not hasattr(found, part):
            raise UserError(f"{name}: {module} has no {path}.")
        found = getattr(found, part)
    if not callable(found):
        raise UserError(
            f"{name} is a {type(found).__name__}; it must be a class or a function."
        )
    return found


def call_factory(name: str, *arguments: Any, **options: Any) -> Any:
    """Calls what a user names from a package of their own.

    Args:
        name: As of `load_factory`.
        *arguments: What it is given.
        **options: What it is given by name.

    Returns:
        What it makes.

    Raises:
        UserError: As `load_factory`, or if it has other parameters.
    """
    factory = load_factory(name)
    try:
        inspect.signature(factory).bind(*arguments, **options)
    except TypeError as error:
        raise UserError(f"{name} has other parameters: {error}.") from error
    return factory(*arguments, **options)


def _import(name: str, module: str) -> Any:
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise UserError(f"{name} cannot be imported: {error}.") from error
        raise UserError(
            f"{name}: there is no module {error.name}, installed or in {here}. Install "
            "the package that it is in, by `pip install -e .`, or go to its directory."
        ) from error
    finally:
        if added:
            sys.path.remove(here)
