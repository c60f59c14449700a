"""Programs that draw nothing say so to MuJoCo."""

import os

import pytest

from applications.training import without_display


@pytest.mark.parametrize(("given", "left"), [(None, "disable"), ("egl", "egl")])
def test_what_mujoco_is_told(given, left, monkeypatch):
    # Set first, so that whatever the function sets is undone.
    monkeypatch.setenv("MUJOCO_GL", "")
    if given is None:
        monkeypatch.delenv("MUJOCO_GL")
    else:
        monkeypatch.setenv("MUJOCO_GL", given)
    without_display()
    assert os.environ["MUJOCO_GL"] == left
