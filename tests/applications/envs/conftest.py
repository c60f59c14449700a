import importlib.util
import sys
import types

import gymnasium
import pytest


@pytest.fixture
def gymnasium_env(monkeypatch):
    """Makes Gymnasium's environments. Their renderer, unused here, wants imageio."""
    if importlib.util.find_spec("imageio") is None:
        monkeypatch.setitem(sys.modules, "imageio", types.ModuleType("imageio"))
    made = []

    def make(name, **options):
        env = gymnasium.make(name, **options)
        made.append(env)
        return env.unwrapped

    yield make
    for env in made:
        env.close()
