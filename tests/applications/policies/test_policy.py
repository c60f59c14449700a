"""Policies: the perceptron by hand, its flat view, policies of one's own."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import AbstractTask, ActionSpace, Continuous, Discrete
from applications.policies import (
    AbstractPolicy,
    act,
    FlatView,
    make_policy,
    MLPPolicy,
    RunningStatistics,
    standardised,
)


class _Task(AbstractTask):
    """Only the sizes that a policy asks for."""

    observation_size: int = eqx.field(static=True)
    action_space: ActionSpace = eqx.field(static=True)
    horizon: int = eqx.field(static=True, default=1)

    def reset(self, *, key):
        raise NotImplementedError

    def observe(self, state):
        raise NotImplementedError

    def step(self, state, action):
        raise NotImplementedError


def _with_random_weights(policy, seed=0):
    view = FlatView(policy)
    random = np.random.default_rng(seed)
    return view.to_policy(jnp.asarray(random.standard_normal(view.space.size), float))


def _raw_output(policy, observation):
    """The network before squashing, in NumPy's double precision."""
    x = np.asarray(observation, float)
    for i, layer in enumerate(policy.layers):
        x = np.asarray(layer.weight, float) @ x + np.asarray(layer.bias, float)
        if i < len(policy.layers) - 1:
            x = np.tanh(x)
    return x


_OBSERVATION = jnp.array([0.3, -1.0, 2.0])


@pytest.mark.parametrize("hidden", [(), (4,), (4, 5)])
def test_continuous_actions_are_squashed_into_the_box(hidden):
    low, high = np.array([-1.0, 0.0]), np.array([3.0, 0.5])
    task = _Task(3, Continuous((-1.0, 0.0), (3.0, 0.5)))
    policy = _with_random_weights(MLPPolicy(task, hidden, key=jax.random.key(0)))
    assert [layer.weight.shape for layer in policy.layers] == [
        (n, m) for m, n in zip((3, *hidden), (*hidden, 2), strict=True)
    ]
    share = (np.tanh(_raw_output(policy, _OBSERVATION)) + 1) / 2
    expected = low + share * (high - low)
    np.testing.assert_allclose(policy(_OBSERVATION), expected, rtol=1e-5, atol=1e-6)


def test_the_box_by_hand():
    # Linear, one input. tanh(0) = 0 is the box's middle; far out are its bounds.
    task = _Task(1, Continuous((-1.0, 0.0), (3.0, 0.5)))
    policy = MLPPolicy(task, (), key=jax.random.key(0))
    policy = FlatView(policy).to_policy(jnp.array([100.0, -100.0, 0.0, 0.0]))
    for x, action in [(0.0, [1, 0.25]), (1.0, [3, 0]), (-1.0, [-1, 0.5])]:
        np.testing.assert_allclose(policy(jnp.array([x])), action, atol=1e-6)


def test_discrete_preferences_are_not_squashed():
    task = _Task(3, Discrete(4))
    policy = _with_random_weights(MLPPolicy(task, (5,), key=jax.random.key(0)))
    expected = _raw_output(policy, _OBSERVATION)
    preferences = policy(_OBSERVATION)
    np.testing.assert_allclose(preferences, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(expected).max() > 1
    assert int(policy.action_space.select(preferences)) == expected.argmax()


def test_flat_view_goes_there_and_back():
    task = _Task(2, Continuous((-1.0,), (1.0,)))
    policy = MLPPolicy(task, (3,), key=jax.random.key(0))
    view = FlatView(policy)
    # By hand: W0 (3 x 2), b0, W1 (1 x 3), b1.
    theta = jnp.arange(13.0)
    made = view.to_policy(theta)
    np.testing.assert_array_equal(made.layers[0].weight, [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(made.layers[0].bias, [6, 7, 8])
    np.testing.assert_array_equal(made.layers[1].weight, [[9, 10, 11]])
    np.testing.assert_array_equal(made.layers[1].bias, [12])
    np.testing.assert_array_equal(view.to_vector(made), theta)
    assert eqx.tree_equal(view.to_policy(view.to_vector(policy)), policy)
    assert not eqx.tree_equal(made, policy)
    # The view keeps no weights, whatever policy it was made from.
    assert jax.tree.leaves(view) == []
    assert view.space == FlatView(_with_random_weights(policy)).space


def test_flat_view_under_vmap():
    task = _Task(2, Discrete(2))
    view = FlatView(MLPPolicy(task, (), key=jax.random.key(0)))
    thetas = jnp.arange(12.0).reshape(2, 6)
    observation = jnp.array([1.0, -1.0])
    outputs = jax.vmap(lambda theta: view.to_policy(theta)(observation))(thetas)
    # [[0, 1], [2, 3]] x + [4, 5], and the same with 6 more everywhere.
    np.testing.assert_array_equal(outputs, [[3, 4], [9, 10]])


# Policies of one's own.


class Gains(AbstractPolicy):
    """A matrix of gains, with what it saw beside its output."""

    gains: jax.Array
    action_space: ActionSpace = eqx.field(static=True)

    def __init__(self, task, hidden, *, key):
        shape = (task.action_space.output_size, task.observation_size)
        self.gains = jnp.ones(shape) * len(hidden)
        self.action_space = task.action_space

    def __call__(self, observation, *, key=None):
        output = self.gains @ observation
        return output if key is None else (output, {"seen": observation})

    def fold_standardisation(self, mean, std):
        return eqx.tree_at(lambda policy: policy.gains, self, self.gains / std[None])


def no_policy(task, hidden, *, key):
    return lambda observation: observation


def test_a_policy_of_ones_own():
    task = _Task(2, Discrete(3))
    policy = make_policy(f"{__name__}:Gains", task, (4, 4), key=jax.random.key(0))
    assert isinstance(policy, Gains)
    observation = jnp.array([1.0, 2.0])
    np.testing.assert_array_equal(policy(observation), [6, 6, 6])
    output, extras = act(policy, observation, key=jax.random.key(0))
    np.testing.assert_array_equal(output, [6, 6, 6])
    np.testing.assert_array_equal(extras["seen"], observation)
    view = FlatView(policy)
    np.testing.assert_array_equal(view.to_vector(policy), np.full(6, 2.0))
    statistics = RunningStatistics(
        jnp.array(4.0), jnp.zeros(2), jnp.array([16.0, 64.0])
    )
    # Deviations 2 and 4.
    folded = standardised(policy, statistics)
    np.testing.assert_array_equal(folded(observation), [2, 2, 2])


def test_the_perceptron_by_its_name():
    task, key = _Task(2, Discrete(3)), jax.random.key(0)
    named = make_policy("mlp", task, (4,), key=key)
    assert eqx.tree_equal(named, MLPPolicy(task, (4,), key=key))
    observation = jnp.array([1.0, 2.0])
    output, extras = act(named, observation, key=key)
    np.testing.assert_array_equal(output, named(observation))
    assert extras == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("perceptron", "There is no policy 'perceptron'; there are mlp, and package"),
        ("no_such_package:Policy", "there is no module no_such_package"),
        ("applications:Nothing", "applications has no Nothing"),
        ("applications.envs:__name__", "it must be a class or a function"),
        (f"{__name__}:no_policy", "made function; it must make a subclass of"),
    ],
)
def test_names_of_no_policy(name, message):
    with pytest.raises(ValueError, match=message):
        make_policy(name, _Task(2, Discrete(3)), (4,), key=jax.random.key(0))


def test_an_output_is_squashed_or_clipped():
    task = _Task(4, Continuous((-3.0,), (3.0,)))
    seen = jnp.array([-9.0, 0.5, 9.0])
    cases: dict[Any, Any] = {
        "clip": [-3.0, 0.6, 3.0],
        "tanh": 3 * np.tanh([-8.9, 0.6, 9.1]),
    }
    for bound, expected in cases.items():
        policy = MLPPolicy(task, (), bound=bound, key=jax.random.key(0))
        weights = (jnp.array([[1.0, 0.0, 0.0, 0.0]]), jnp.array([0.1]))
        where = lambda policy: (policy.layers[0].weight, policy.layers[0].bias)
        policy = eqx.tree_at(where, policy, weights)
        found = jnp.stack([policy(jnp.zeros(4).at[0].set(x))[0] for x in seen])
        np.testing.assert_allclose(found, expected, rtol=1e-6)
