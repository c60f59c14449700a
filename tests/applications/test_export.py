"""`applications.export`: policies for NumPy and ONNX, which act as ours do."""

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import make
from applications.export import main
from applications.policies import (
    export_arrays,
    export_onnx,
    MLPPolicy,
    run_arrays,
    StochasticPolicy,
    write_policy,
)


_OPTIONS = [
    {"activation": "relu", "bound": "clip"},
    {"activation": "swish", "levels": 3},
    {"activation": "tanh"},
]


def _policy(options):
    task = make("hopper", physics="mujoco")
    policy = MLPPolicy(task, (5, 4), **options, key=jr.key(0))
    # Far enough for the ends of the box to matter.
    return eqx.tree_at(
        lambda p: p.layers[-1].weight, policy, 20 * policy.layers[-1].weight
    )


def _ours(policy, seen):
    act = lambda x: policy.action_space.clip(policy.action_space.select(policy(x)))
    return np.asarray(jax.jit(jax.vmap(act))(seen))


@pytest.mark.parametrize("options", _OPTIONS, ids=lambda x: x["activation"])
def test_arrays_act_as_the_policy(options, tmp_path):
    policy, seen = _policy(options), jr.normal(jr.key(1), (50, 11))
    with open(tmp_path / "policy.npz", "wb") as file:
        export_arrays(file, policy)
    found = run_arrays(tmp_path / "policy.npz", np.asarray(seen))
    expected = _ours(policy, seen)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected) > 1
    # Control: other observations, other actions.
    other = run_arrays(tmp_path / "policy.npz", np.asarray(-seen))
    assert not np.allclose(other, expected, atol=1e-2)


@pytest.mark.parametrize("options", _OPTIONS, ids=lambda x: x["activation"])
def test_onnx_acts_as_the_policy(options, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    policy, seen = _policy(options), jr.normal(jr.key(1), (50, 11))
    with open(tmp_path / "policy.onnx", "wb") as file:
        export_onnx(file, policy)
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    (found,) = session.run(["action"], {"observation": np.asarray(seen)})
    np.testing.assert_allclose(found, _ours(policy, seen), atol=1e-5)


def _balancing() -> MLPPolicy:
    """A policy of cartpole that pushes to where the pole falls."""
    policy = MLPPolicy(make("cartpole"), (), key=jr.key(0))
    row = jnp.array([0.05, 0.3, 1.0, 0.6])
    layer: eqx.nn.Linear = policy.layers[0]
    linear = lambda layer: (layer.weight, layer.bias)
    layer = eqx.tree_at(linear, layer, (jnp.stack([-row, row]), jnp.zeros(2)))
    return eqx.tree_at(lambda policy: policy.layers, policy, (layer,))


def test_a_policy_solves_cartpole_in_numpy(tmp_path, capsys):
    with open(tmp_path / "policy.eqx", "wb") as file:
        write_policy(file, _balancing(), task="cartpole", task_options={})
    path = tmp_path / "policy.npz"
    assert main([str(tmp_path / "policy.eqx"), str(path)]) == 0
    assert "The same action in 100.0% of 1,000 observations" in capsys.readouterr().out
    env = gymnasium.make("CartPole-v1")
    for seed in range(3):
        observation, total = env.reset(seed=seed)[0], 0.0
        while True:
            (action,) = run_arrays(path, observation[None])
            observation, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        assert total == 500


def test_what_cannot_be_exported(tmp_path, capsys):
    assert main([str(tmp_path), "policy.txt"]) == 2
    assert "policy.txt must end in .npz or .onnx" in capsys.readouterr().err
    assert main([str(tmp_path), str(tmp_path / "policy.npz")]) == 2
    assert "is not a run: it has no config.json" in capsys.readouterr().err
    stochastic = StochasticPolicy.around(_policy({}), 0.1)
    with (
        open(tmp_path / "policy.npz", "wb") as file,
        pytest.raises(ValueError, match="Only perceptrons can be exported"),
    ):
        export_arrays(file, stochastic)
