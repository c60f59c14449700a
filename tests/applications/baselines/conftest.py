import jax
import pytest


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Hides all devices but the first from Brax, which would share out over all."""
    devices = jax.devices()[:1]
    for name in ("devices", "local_devices"):
        monkeypatch.setattr(jax, name, lambda *args, **kwargs: devices)
    for name in ("device_count", "local_device_count"):
        monkeypatch.setattr(jax, name, lambda *args, **kwargs: 1)
