"""What tests of several packages look at in a run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest


_DEVICES = tuple(jax.devices())


def _show_devices(patch: pytest.MonkeyPatch, number: int) -> None:
    assert number <= len(_DEVICES)
    for name in ("devices", "local_devices"):
        patch.setattr(jax, name, lambda *args, **kwargs: list(_DEVICES[:number]))
    for name in ("device_count", "local_device_count"):
        patch.setattr(jax, name, lambda *args, **kwargs: number)


@pytest.fixture(autouse=True, scope="session")
def _one_device() -> Iterator[None]:
    """Shows one of the four devices, to fixtures of modules too."""
    with pytest.MonkeyPatch.context() as patch:
        _show_devices(patch, 1)
        yield


@pytest.fixture
def use_devices(monkeypatch) -> Callable[[int], None]:
    """Says how many of the four devices a test has."""
    return lambda number: _show_devices(monkeypatch, number)


@pytest.fixture(scope="session")
def arrays_of() -> Callable[[Path], dict[str, np.ndarray]]:
    """From a run's directory to all arrays of its last checkpoint."""

    def read(directory: Path) -> dict[str, np.ndarray]:
        newest = max((directory / "checkpoints").glob("*.ckpt"))
        with open(newest, "rb") as file:
            file.readline()
            with np.load(file, allow_pickle=False) as archive:
                return {k: archive[k] for k in archive.files if k != "metadata"}

    return read


@pytest.fixture(scope="session")
def assert_same_bits(arrays_of) -> Callable[[Path, Path], None]:
    """Fails unless the last checkpoints of two runs have the same bits."""

    def check(ours: Path, theirs: Path) -> None:
        a, b = arrays_of(ours), arrays_of(theirs)
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].tobytes() == b[name].tobytes(), name

    return check
