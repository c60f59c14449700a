"""What tests of several packages look at in a run."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def use_devices(monkeypatch) -> Callable[[int], None]:
    """Says how many of the four devices there are: one, unless a test asks for more."""
    devices = jax.devices()

    def use(number: int) -> None:
        assert number <= len(devices)
        for name in ("devices", "local_devices"):
            monkeypatch.setattr(jax, name, lambda *args, **kwargs: devices[:number])
        for name in ("device_count", "local_device_count"):
            monkeypatch.setattr(jax, name, lambda *args, **kwargs: number)

    use(1)
    return use


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
