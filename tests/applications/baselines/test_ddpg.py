"""DDPG of Stable-Baselines3, where that heavy library is installed."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest


pytest.importorskip("stable_baselines3")

from applications.baselines import _sb3, train
from applications.envs import make
from applications.envs.adapters import to_gymnasium


def test_an_actor_does_the_same_in_our_form():
    task = make("inverted_pendulum", physics="mujoco")
    model = _sb3.DDPG("MlpPolicy", to_gymnasium(task), policy_kwargs={"net_arch": [8]})
    observations = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected, _ = model.predict(observations, deterministic=True)
    policy = _sb3.to_policy(task, model.actor)
    np.testing.assert_allclose(
        jax.vmap(policy)(jnp.asarray(observations)), expected, atol=1e-5
    )
    assert np.abs(expected).max() < 3 and np.ptp(expected) > 0.01


def test_a_run(tmp_path, capsys):
    run = tmp_path / "run"
    flags = f"--algorithm ddpg --env lqr --steps 300 --horizon 20 --run-dir {run}"
    flags += " --warm-up 100 --hidden 8 --batch-size 16 --iterations 3"
    assert train.main(flags.split()) == 0
    lines = (run / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["env_steps"] for row in rows] == [100, 200, 300]
    evaluation = json.loads((run / "evaluation.json").read_text())
    # One gradient step lies between the two.
    assert evaluation["mean"] == pytest.approx(rows[-1]["return_policy"], rel=0.01)
    assert (run / "policy.eqx").is_file() and (run / "return.png").is_file()
    shutil.rmtree(run)
    flags = f"--algorithm ddpg --env cartpole --run-dir {run}"
    assert train.main(flags.split()) == 2
    assert "ddpg needs continuous actions" in capsys.readouterr().err
    assert not run.exists()
