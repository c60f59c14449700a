"""EPVF with every representation, several sizes, statistics, and the C engine."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import make
from applications.epvf.algorithm import EPVF
from applications.epvf.config import Config
from applications.policies import MLPPolicy
from applications.settings import UserError
from applications.values import EncoderOptions, make_encoder, REPRESENTATIONS
from tests.helpers import nightly


_SMALL: dict[str, Any] = {
    "num_envs": 6,
    "hidden": (4,),
    "iterations": 3,
    "archive": 2,
    "critic_updates": 2,
    "policy_updates": 2,
    "critic_width": 8,
    "eval_episodes": 2,
}


@pytest.mark.parametrize(
    "name",
    nightly(REPRESENTATIONS, ["transformer", "scale-graph", "generated-probing"]),
)
def test_every_representation_reads_policies(name):
    task = make("cartpole")
    policy = MLPPolicy(task, (3, 3), key=jr.key(0))
    options = EncoderOptions(features=5, channels=2, layers=1, probes=4, rounds=2)
    encoder = make_encoder(name, task, policy, options, key=jr.key(1))
    vector = encoder(policy)
    assert vector.shape == (encoder.num_features,) and np.isfinite(vector).all()
    other = MLPPolicy(task, (3, 3), key=jr.key(2))
    assert not np.allclose(encoder(other), vector)
    # Two hidden units change places; tanh is odd, so that one may change its sign.
    order, sign = jnp.array([1, 0, 2]), jnp.array([1.0, -1.0, 1.0])
    first, second, third = map(_any, policy.layers)
    moved = eqx.tree_at(
        lambda p: (p.layers[0].weight, p.layers[0].bias, p.layers[1].weight),
        policy,
        (
            sign[:, None] * first.weight[order],
            sign * first.bias[order],
            sign[None] * second.weight[:, order],
        ),
    )
    same = np.allclose(encoder(moved), vector, atol=1e-4)
    knows_signs = {"flat", "statistics", "equivariant", "transformer", "graph"}
    assert same == (name not in knows_signs)
    assert third.out_features == 2


def test_an_iteration_of_an_encoder_of_weights():
    config = Config(
        representation="equivariant", encoder_channels=2, step="adam", **_SMALL
    )
    algorithm = EPVF(make("cartpole", horizon=60), config)
    state = algorithm.init(key=jr.key(0))
    # Long enough for some to fall and others not.
    after, metrics = algorithm.compile(state)(_copy(state))
    assert np.isfinite(metrics["critic_loss"])
    assert not np.array_equal(after.learned.policies, state.learned.policies)


def _any(x: Any) -> Any:
    """Of a type that Equinox's optional biases do not trouble."""
    return x


def _all(trial):
    return jnp.concatenate([trial.proposal.candidates, trial.proposal.evaluation])


def _copy(state):
    return jax.tree.map(lambda x: jnp.copy(x) if eqx.is_array(x) else x, state)


def test_both_engines_take_the_same_steps():
    states = {}
    for physics in ("mjx", "mujoco"):
        task = make("reacher", physics=physics, integrator="euler", horizon=6)
        algorithm = EPVF(task, Config(**_SMALL))
        state = algorithm.init(key=jr.key(0))
        step = algorithm.compile(state)
        state, metrics = step(step(state)[0])
        states[physics] = state
        # Perturbed policies alone are learned from: 6 of 6 steps each.
        assert metrics["env_steps"] == 36
    mine, theirs = states["mujoco"], states["mjx"]
    np.testing.assert_allclose(
        mine.learned.policies, theirs.learned.policies, atol=1e-4
    )
    np.testing.assert_allclose(
        mine.learned.archive.entries.returns,
        theirs.learned.archive.entries.returns,
        rtol=1e-3,
    )
    assert np.std(mine.learned.archive.entries.returns) > 0.01


def test_policies_of_several_sizes():
    config = Config(
        policies="many",
        sizes=(2, 4),
        representation="probing",
        num_probes=3,
        step="adam",
        normalise=False,
        **_SMALL,
    )
    algorithm = EPVF(make("cartpole", horizon=60), config)
    state = algorithm.init(key=jr.key(0))
    before = state.learned.policies
    after, _ = algorithm.compile(state)(_copy(state))
    for vectors in (
        before,
        after.learned.policies,
        after.learned.archive.entries.weights[:6],
    ):
        for i, vector in enumerate(vectors):
            policy = _any(algorithm.view.to_policy(vector))
            narrow = i % 2 == 0
            beyond = np.concatenate(
                [
                    np.ravel(policy.layers[0].weight[2:]),
                    policy.layers[0].bias[2:],
                    np.ravel(policy.layers[1].weight[:, 2:]),
                ]
            )
            assert np.all(beyond == 0) == narrow
    assert np.all(np.any(before != after.learned.policies, axis=1))
    best = _any(algorithm.policy(after))
    assert best.layers[0].out_features in (2, 4)
    seen = jr.normal(jr.key(1), (4,))
    outputs = [algorithm.view.to_policy(x)(seen) for x in after.learned.policies]
    assert any(np.allclose(best(seen), output, atol=1e-6) for output in outputs)


def test_sizes_must_fit():
    with pytest.raises(UserError, match="--sizes are of several policies"):
        Config(sizes=(2,))
    with pytest.raises(UserError, match="--sizes 32 is wider than --hidden 16"):
        Config(sizes=(8, 32), hidden=(16, 16), policies="many")
    with pytest.raises(UserError, match="--num-probes 16 cannot be shared out"):
        Config(representation="interactive-probing", probe_rounds=3)


def test_resized_policies_do_the_same():
    task = make("cartpole")
    policy = MLPPolicy(task, (3, 5), key=jr.key(0))
    wider = policy.resized((6, 6))
    seen = jr.normal(jr.key(1), (7, 4))
    assert wider.layers[1].weight.shape == (6, 6)
    np.testing.assert_allclose(jax.vmap(wider)(seen), jax.vmap(policy)(seen), atol=1e-6)
    assert eqx.tree_equal(wider.resized((3, 5)), policy)
    # Control: units that are cut off are missed.
    narrower = policy.resized((2, 5))
    assert not np.allclose(jax.vmap(narrower)(seen), jax.vmap(policy)(seen))


def test_observations_are_standardised():
    task = make("mountain_car_continuous", horizon=30)
    algorithm = EPVF(task, Config(normalise=True, **_SMALL))
    state = eqx.filter_jit(lambda key: algorithm.init(key=key))(jr.key(0))
    propose = eqx.filter_jit(lambda state: algorithm.before_rollout(state))
    # Before anything was seen, policies act as they are.
    trial = propose(state)
    np.testing.assert_array_equal(trial.acting, _all(trial))
    after, _ = algorithm.compile(state)(_copy(state))
    assert after.observations.count == 8 * 30
    # Positions are near -0.5, velocities within 0.07.
    assert (
        -0.7 < after.observations.mean[0] < -0.3
        and 0 < after.observations.std[1] < 0.07
    )
    trial = propose(after)
    observation = jnp.array([-0.4, 0.02])
    standard = (observation - after.observations.mean) / after.observations.std
    to_policy = algorithm.view.to_policy
    act = jax.jit(jax.vmap(lambda row, seen: to_policy(row)(seen), (0, None)))
    does = act(trial.acting, observation)
    np.testing.assert_allclose(does, act(_all(trial), standard), atol=1e-4)
    unlike = np.abs(does - act(_all(trial), observation))
    assert unlike.max(axis=1).min() > 1e-3
    np.testing.assert_allclose(
        algorithm.policy(after)(observation),
        to_policy(after.learned.policies[0])(standard),
        atol=1e-4,
    )
