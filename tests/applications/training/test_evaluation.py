"""What is said of the policy at the end of a run."""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import jax.random as jr
import pytest

from applications.epvf.train import COMMAND_LINE
from applications.policies import MLPPolicy
from applications.training import evaluate_policy, Run
from applications.training.cli import _policy


@pytest.mark.parametrize(
    ("sound", "mean", "told"),
    [
        ((True, True, True), 40.0, "Mean return of 3"),
        # Control: the mean of all three is another.
        ((True, False, True), 20.0, "1 more broke off"),
        ((False, False, False), None, "3 more broke off"),
    ],
)
def test_broken_episodes_do_not_count(sound, mean, told, tmp_path, monkeypatch, capsys):
    episodes = SimpleNamespace(
        total_reward=jnp.array([10.0, 80.0, 30.0]),
        length=jnp.array([5, 6, 7]),
        valid=jnp.array(sound),
    )
    monkeypatch.setattr(_policy, "evaluate", lambda *_, **__: episodes)
    settings = COMMAND_LINE.parse([])
    run = Run.create(tmp_path / "run", settings.manifest)
    policy = MLPPolicy(settings.task.make(as_trained=True), (), key=jr.key(0))
    evaluate_policy(run, settings, policy)
    found = json.loads(run.evaluation.read_text())
    assert found["mean"] == mean and found["broken"] == 3 - sum(sound)
    assert len(found["returns"]) == len(found["lengths"]) == sum(sound)
    assert told in capsys.readouterr().out
