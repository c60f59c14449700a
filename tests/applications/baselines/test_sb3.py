"""Algorithms of Stable-Baselines3, where that heavy library is installed."""

import json
import math
import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest


# pyright: reportMissingImports=false
pytest.importorskip("stable_baselines3")

import torch
from stable_baselines3.common.callbacks import BaseCallback

from applications.baselines import (
    _sb3,
    DDPGConfig,
    SB3PPOConfig,
    SB3SACConfig,
    train,
)
from applications.envs import make
from applications.policies import MLPPolicy
from applications.settings import UserError
from tests.helpers import nightly


_PPO = SB3PPOConfig(hidden=(8,), critic_hidden=(4,), normalise=True)
_SAC = SB3SACConfig(hidden=(8, 4), normalise=True)
_KINDS = {
    "ddpg": DDPGConfig(hidden=(8,)),
    "ppo": _PPO,
    "ppo of relu": SB3PPOConfig(
        hidden=(), activation="relu", orthogonal=False, sde=True, normalise_rewards=True
    ),
    "sac": _SAC,
    "sac with sde": SB3SACConfig(hidden=(8,), sde=True, normalise=True),
}


@pytest.mark.parametrize("config", _KINDS.values(), ids=_KINDS)
def test_a_policy_does_the_same_in_our_form(config):
    task = make("inverted_pendulum", physics="mujoco")
    environments = _sb3._environments(task, config)
    model = _sb3.make_model(environments, config, seed=0)
    random = np.random.default_rng(0)
    seen = (1 + 4 * random.normal(size=(30, 4))).astype(np.float32)
    normaliser = model.get_vec_normalize_env()
    shown = seen
    if normaliser is not None and normaliser.norm_obs:
        normaliser.obs_rms.update(seen[:20])
        shown = normaliser.normalize_obs(seen)
        # Beyond ten deviations too.
        seen = np.append(seen, 100 * seen[:1], axis=0)
        shown = normaliser.normalize_obs(seen)
    if isinstance(config, SB3PPOConfig):
        # Wide enough to leave the box, of 3.
        with torch.no_grad():
            model.policy.action_net.weight *= 300 if config.orthogonal else 2
            model.policy.action_net.bias += 0.5
    expected, _ = model.predict(shown, deterministic=True)
    policy = _sb3.to_policy(task, model)
    found = jax.vmap(policy)(jnp.asarray(seen))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(expected) > 0.01
    if isinstance(config, SB3PPOConfig):
        at_the_end = np.abs(expected) == 3
        assert at_the_end.any() and not at_the_end.all()
        # Control: squashed, the same weights would do something else.
        like = MLPPolicy(
            task, config.hidden, activation=config.activation, key=jax.random.key(0)
        )
        other = eqx.tree_at(lambda policy: policy.layers, like, policy.layers)
        assert not np.allclose(jax.vmap(other)(jnp.asarray(seen)), expected, atol=0.1)
    if shown is not seen:
        # Control: what it sees is standardised.
        other = jax.vmap(policy)(jnp.asarray(shown, jnp.float32))
        assert not np.allclose(other, expected, atol=0.01)


def test_a_choice_among_actions():
    task = make("cartpole")
    model = _sb3.make_model(_sb3._environments(task, _PPO), _PPO, seed=0)
    seen = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    expected, _ = model.predict(model.env.normalize_obs(seen), deterministic=True)
    policy = _sb3.to_policy(task, model)
    found = jax.vmap(lambda x: task.action_space.select(policy(x)))(jnp.asarray(seen))
    np.testing.assert_array_equal(found, expected)
    assert set(expected.tolist()) == {0, 1}


class _Steps(BaseCallback):
    """Keeps what the environments gave in every step."""

    def __init__(self):
        super().__init__()
        self.rewards, self.infos = [], []

    def _on_step(self):
        self.rewards.append(self.locals["rewards"].copy())
        self.infos.append(self.locals["infos"])
        return True


def test_values_are_bootstrapped_where_time_is_up_and_only_there():
    # Pushed about at random, some poles fall before 20 steps and some do not.
    task = make("cartpole", horizon=20)
    config = SB3PPOConfig(num_envs=4, unroll=64, learning_rate=1e-12, discount=0.9)
    model = _sb3.make_model(_sb3._environments(task, config), config, seed=0)
    given = _Steps()
    model.learn(256, callback=given)
    ended = {True: 0, False: 0}
    for t, infos in enumerate(given.infos):
        for i, info in enumerate(infos):
            expected = given.rewards[t][i]
            if "terminal_observation" in info:
                last = torch.as_tensor(info["terminal_observation"])[None]
                fallen = bool(abs(last[0, 2]) > math.radians(12))
                ended[fallen] += 1
                assert info["TimeLimit.truncated"] == (not fallen)
                assert info["episode"]["l"] == 20 or fallen
                if not fallen:
                    value = model.policy.predict_values(last).item()
                    assert abs(value) > 1e-3
                    expected += 0.9 * value
            kept = model.rollout_buffer.rewards[t, i]
            assert kept == pytest.approx(expected, abs=1e-4)
    assert min(ended.values()) > 0


_TINY = {
    "sb3-ppo": "--num-envs 2 --unroll 25 --batch-size 25 --normalise-rewards",
    "sb3-sac": "--num-envs 2 --warm-up 100 --batch-size 16 --unroll 5 --normalise",
    "ddpg": "--warm-up 100 --batch-size 16",
}


@pytest.mark.parametrize("algorithm", nightly(_TINY, ["sb3-sac", "ddpg"]))
def test_a_run(algorithm, tmp_path):
    run, again = tmp_path / "run", tmp_path / "again"
    flags = f"--algorithm {algorithm} --env lqr --steps 300 --horizon 20 --hidden 8 "
    flags += f"--iterations 3 {_TINY[algorithm]}"
    assert train.main([*flags.split(), "--run-dir", str(run)]) == 0
    lines = (run / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["env_steps"] for row in rows] == [100, 200, 300]
    assert all(row["return_training"] < 0 for row in rows)
    # LQR always starts at 1, and the policy has no noise.
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["mean"] == pytest.approx(rows[-1]["return_policy"], rel=1e-4)
    assert (run / "policy.eqx").is_file() and (run / "return.png").is_file()
    assert train.main([*flags.split(), "--run-dir", str(again)]) == 0
    assert (again / "policy.eqx").read_bytes() == (run / "policy.eqx").read_bytes()
    shutil.rmtree(again)
    more = [*flags.split(), "--seed", "1", "--run-dir", str(again)]
    assert train.main(more) == 0
    assert (again / "policy.eqx").read_bytes() != (run / "policy.eqx").read_bytes()


@pytest.mark.nightly
@pytest.mark.parametrize("flags", ["", "--schedule linear"])
def test_ppo_learns_to_balance(flags, tmp_path):
    run = tmp_path / "run"
    # As tuned for CartPole by the authors of Stable-Baselines3.
    flags += " --algorithm sb3-ppo --env cartpole --num-envs 8 --unroll 32 --updates 20"
    flags += " --batch-size 256 --gae-lambda 0.8 --discount 0.98 --learning-rate 1e-3"
    assert train.main([*flags.split(), "--steps", "40000", "--run-dir", str(run)]) == 0
    assert json.loads((run / "evaluation.json").read_text())["mean"] > 450


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (DDPGConfig(), "ddpg"),
        (SB3SACConfig(), "sb3-sac"),
        (SB3PPOConfig(sde=True), "--sde"),
    ],
)
def test_actions_that_cannot_be_learned(config, name):
    with pytest.raises(UserError, match=f"{name} needs continuous actions"):
        _sb3.check(make("cartpole"), config)
    _sb3.check(make("lqr"), config)
    _sb3.check(make("cartpole"), SB3PPOConfig())
