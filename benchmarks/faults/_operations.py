"""All file operations of a run, one after the other: a crash before it, or an error."""

import builtins
import contextlib
import errno
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.faults._cases import Case, differences, left, log_of
from benchmarks.faults._forks import start, wait
from benchmarks.faults._tally import Tally


_ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
_NAMES = ("replace", "rename", "truncate", "mkdir", "unlink", "rmdir", "fsync")


class _File:
    """A file whose writes are operations too; each half of one is written by itself."""

    def __init__(self, file: Any, path: str, before: Callable[[str], None]):
        self._file, self._path, self._before = file, path, before

    def write(self, content: Any) -> int:
        self._before(f"write {self._path}")
        middle = len(content) // 2
        self._file.write(content[:middle])
        self._file.flush()
        self._before(f"write the rest of {self._path}")
        self._file.write(content[middle:])
        return len(content)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._before(f"flush {self._path}")
        self._file.flush()

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextlib.contextmanager
def watched(root: Path, before: Callable[[str], None]) -> Iterator[None]:
    """Calls a function before each operation that changes files under a directory.

    Args:
        root: The directory.
        before: Receives what is about to be done, and may raise instead.
    """

    def inside(path: Any) -> bool:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        return Path(str(path)).is_relative_to(root)

    def of_os(name: str) -> Callable[..., Any]:
        done = getattr(os, name)

        def operation(path: Any, *arguments: Any, **options: Any) -> Any:
            if inside(path):
                before(f"{name} {path}")
            return done(path, *arguments, **options)

        return operation

    opened, made = builtins.open, tempfile.mkdtemp

    def open_(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if isinstance(path, int) or not inside(path) or not set(mode) & set("wxa+"):
            return opened(path, mode, *arguments, **options)
        before(f"open {path}")
        return _File(opened(path, mode, *arguments, **options), str(path), before)

    def mkdtemp(*arguments: Any, **options: Any) -> str:
        if inside(options.get("dir")):
            before("mkdtemp")
        return made(*arguments, **options)

    with contextlib.ExitStack() as stack:
        for name in _NAMES:
            stack.enter_context(mock.patch.object(os, name, of_os(name)))
        stack.enter_context(mock.patch.object(builtins, "open", open_))
        stack.enter_context(mock.patch.object(io, "open", open_))
        stack.enter_context(mock.patch.object(tempfile, "mkdtemp", mkdtemp))
        yield


def _train(case: Case, place: Path, before: Callable[[str], None]) -> int:
    """Trains in a directory of its own, whose operations are watched."""

    def action() -> int:
        from importlib import import_module

        main = import_module(case.module).main
        flags = [*case.flags.split(), "--run-dir", str(place / "run")]
        with watched(place, before):
            return main(flags)

    place.mkdir()
    return wait(start(action, log_of(place), devices=case.devices))


def crash_states(case: Case, most: int, work: Path) -> Tally:
    """Goes on from what a crash before each operation would have left.

    Args:
        case: What is trained, in one process.
        most: How many states at most, evenly over all of them.
        work: An empty directory.

    Returns:
        The tally. Bad is a state that does not end in the bits of the whole run.
    """
    reference, _ = case.reference(work)
    place, states = work / f"{case.name}-watched", work / f"{case.name}-states"
    states.mkdir()
    number = 0

    def keep(_: str) -> None:
        nonlocal number
        number += 1
        shutil.copytree(place, states / f"{number:05d}")

    _train(case, place, keep)
    tally = Tally(f"crash states, {case.name}")
    found = sorted(states.iterdir())
    for state in found[:: -(-len(found) // most) or 1]:
        tally.tried += 1
        codes = case.finish(state / "run")
        wrong = [f"exit {codes}"] if any(codes) else []
        wrong = wrong or differences(state / "run", reference) + left(state / "run")
        if "Traceback" in log_of(state / "run").read_text():
            wrong.append("traceback")
        if wrong:
            tally.bad.append(f"{state.name}: {', '.join(wrong)}")
        shutil.rmtree(state)
    tally.note = f"of {len(found)} operations"
    return tally


def failing_operations(case: Case, most: int, work: Path) -> Tally:
    """Lets each operation fail, and goes on afterwards.

    Args:
        case: What is trained, in one process.
        most: How many failures at most, evenly over operations and errors.
        work: An empty directory.

    Returns:
        The tally. Bad is anything but one line and exit code 2, and a run that does not
        go on to the same bits.
    """
    reference, _ = case.reference(work)
    tally = Tally(f"failing operations, {case.name}")
    counted = work / f"{case.name}-counted.txt"

    def count(what: str) -> None:
        with open(counted, "a") as file:
            file.write(what + "\n")

    _train(case, work / f"{case.name}-count", count)
    total = len(counted.read_text().splitlines())
    trials = [(number, error) for number in range(total) for error in _ERRORS]
    for number, error in trials[:: -(-len(trials) // most) or 1]:
        place = work / f"{case.name}-{number}-{errno.errorcode[error]}"
        passed = 0

        def fail(what: str, number: int = number, error: int = error) -> None:
            nonlocal passed
            passed += 1
            if passed > number:  # a full disk stays full
                raise OSError(error, os.strerror(error), what.split()[-1])

        tally.tried += 1
        code = _train(case, place, fail)
        said = log_of(place).read_text()
        errors = [line for line in said.splitlines() if line.startswith("error:")]
        wrong = []
        if code != 2 or len(errors) != 1 or "Traceback" in said:
            wrong.append(f"exit {code}, {len(errors)} lines")
        codes = case.finish(place / "run")
        if any(codes):
            wrong.append(f"afterwards exit {codes}")
        else:
            wrong += differences(place / "run", reference)
        if wrong:
            tally.bad.append(f"{place.name}: {', '.join(wrong)}")
        else:
            shutil.rmtree(place)
    tally.note = f"{total} operations, {len(_ERRORS)} errors"
    return tally
