"""Policies: the perceptron by hand, its flat view, its file."""

import hashlib
import io
import json
import pickle
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import AbstractTask, ActionSpace, Continuous, Discrete, make
from applications.policies import (
    Activation,
    FlatView,
    MLPPolicy,
    read_policy,
    write_policy,
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


# Files.


def _cartpole_file(folder, hidden=(3, 2)):
    policy = MLPPolicy(make("cartpole"), hidden, key=jax.random.key(7))
    path = folder / "whole.eqx"
    with open(path, "wb") as file:
        write_policy(file, policy, task="cartpole", task_options={"horizon": 30})
    return policy, path.read_bytes()


@pytest.mark.parametrize("hidden", [(), (3, 2)])
def test_file_goes_there_and_back(tmp_path, hidden):
    written, content = _cartpole_file(tmp_path, hidden)
    path = tmp_path / "policy.eqx"
    path.write_bytes(content)
    task, policy = read_policy(path)
    header = json.loads(content.split(b"\n", 1)[0])
    assert task == make("cartpole", horizon=30) and task.horizon == 30
    assert eqx.tree_equal(policy, written)
    weights = content[content.index(b"\n") + 1 :]
    assert header == {
        "format": "wsl-policy 1",
        "task": "cartpole",
        "task_options": {"horizon": 30},
        "hidden": list(hidden),
        "activation": "tanh",
        "sha256": hashlib.sha256(weights).hexdigest(),
    }


def test_damaged_files(tmp_path):
    _, content = _cartpole_file(tmp_path)
    path = tmp_path / "policy.eqx"
    end_of_header = content.index(b"\n")
    lengths = [
        end_of_header,
        end_of_header + 1,
        *range(end_of_header, len(content), 37),
    ]
    whole = bytearray(content)
    whole[-3] ^= 1
    cut = [content[:length] for length in [*lengths, len(content) - 1]]
    for damaged in [*cut, content + b"0", bytes(whole)]:
        path.write_bytes(damaged)
        with pytest.raises(ValueError) as caught:
            read_policy(path)
        assert str(caught.value).startswith(f"{path} is damaged: ")
    for length in (0, 1, end_of_header - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError) as caught:
            read_policy(path)
        assert str(caught.value) == f"{path} is not a policy file."


def _with_checksum(header, weights):
    """A file whose checksum fits, so that only its content can be at fault."""
    fitting = {**json.loads(header), "sha256": hashlib.sha256(weights).hexdigest()}
    return json.dumps(fitting).encode() + b"\n" + weights


class _Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_foreign_files_are_refused_and_never_unpickled(tmp_path):
    _, content = _cartpole_file(tmp_path)
    header, rest = content.split(b"\n", 1)
    mark = tmp_path / "unpickled"
    trap = pickle.dumps(_Trap(mark))
    array = io.BytesIO()
    np.save(array, np.array([_Trap(mark)], dtype=object), allow_pickle=True)
    other_version = {**json.loads(header), "format": "wsl-policy 0"}
    foreign = [
        trap,
        b"\x89PNG\r\n\x1a\n",
        b"[1, 2]\n",
        b"{}\n",
        json.dumps(other_version).encode() + b"\n" + rest,
    ]
    path = tmp_path / "policy.eqx"
    for bad in foreign:
        path.write_bytes(bad)
        with pytest.raises(ValueError) as caught:
            read_policy(path)
        assert str(caught.value) == f"{path} is not a policy file."
    for bad in (trap, array.getvalue()):
        path.write_bytes(_with_checksum(header, bad))
        with pytest.raises(ValueError) as caught:
            read_policy(path)
        assert str(caught.value).startswith(f"{path} does not fit its own header: ")
    assert not mark.exists()
    # Control: the trap does work.
    pickle.loads(trap).close()
    assert mark.exists()


def test_weights_of_another_shape(tmp_path):
    header = _cartpole_file(tmp_path, (3, 2))[1].split(b"\n", 1)[0]
    weights = _cartpole_file(tmp_path, (2, 3))[1].split(b"\n", 1)[1]
    path = tmp_path / "policy.eqx"
    path.write_bytes(_with_checksum(header, weights))
    with pytest.raises(ValueError) as caught:
        read_policy(path)
    assert str(caught.value).startswith(f"{path} does not fit its own header: ")


@pytest.mark.parametrize("missing", ["task", "task_options", "hidden"])
def test_header_that_lacks_something(tmp_path, missing):
    header, weights = _cartpole_file(tmp_path)[1].split(b"\n", 1)
    lacking = {k: v for k, v in json.loads(header).items() if k != missing}
    path = tmp_path / "policy.eqx"
    path.write_bytes(json.dumps(lacking).encode() + b"\n" + weights)
    with pytest.raises(ValueError, match=f"has a header without '{missing}'"):
        read_policy(path)


def test_other_activations_are_kept(tmp_path):
    task = make("cartpole")
    policies = [
        MLPPolicy(task, (4,), activation=activation, key=jax.random.key(0))
        for activation in get_args(Activation)
    ]
    observation = jnp.array([1.0, -2.0, 0.5, 3.0])
    answers = []
    for policy in policies:
        path = tmp_path / policy.activation
        with open(path, "wb") as file:
            write_policy(file, policy, task="cartpole", task_options={})
        _, read = read_policy(path)
        assert eqx.tree_equal(read, policy)
        answers.append(read(observation).tolist())
    assert len({tuple(answer) for answer in answers}) == 3
    with pytest.raises((ValueError, TypeError)):
        sine: Any = "sine"
        MLPPolicy(task, (4,), activation=sine, key=jax.random.key(0))
