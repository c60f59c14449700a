"""Our tasks behind Brax's interface, and Brax's policies in our form."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest


# pyright: reportMissingImports=false
pytest.importorskip("brax")

from applications.baselines import _brax, PPOConfig, train
from applications.envs import make
from applications.envs.adapters import quiet_import, to_brax
from tests.helpers import nightly


with quiet_import():
    from brax.envs.wrappers import training
    from brax.training.acme import running_statistics, specs


def _wrapped(task, horizon):
    return training.wrap(to_brax(task), episode_length=horizon, action_repeat=1)


def _keys(count):
    # As Brax has them: plain integers.
    return jr.key_data(jr.split(jr.key(5), count))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(
            "inverted_pendulum", {"integrator": "euler"}, marks=pytest.mark.nightly
        ),
        ("cartpole", {}),
    ],
)
def test_an_episode_is_the_tasks_own_until_it_starts_again(name, options):
    task = make(name, physics="mjx", **options)
    horizon, count = 6, 2
    continuous = name == "inverted_pendulum"
    raw = jr.uniform(jr.key(1), (horizon + 2, count, 1 if continuous else 2))
    raw = 0.1 * raw  # so that nothing falls
    with _brax._brax_rules():
        env = _wrapped(task, horizon)
        reset, step = jax.jit(env.reset), jax.jit(env.step)
        states = [reset(_keys(count))]
        for actions in raw:
            states.append(step(states[-1], actions))
    assert env.observation_size == task.observation_size
    assert env.action_size == task.action_space.output_size
    own_step = eqx.filter_jit(lambda state, action: task.step(state, action))
    for i in range(count):
        state = task.reset(key=jr.split(jr.key(5), count)[i])
        first = task.observe(state)
        np.testing.assert_array_equal(states[0].obs[i], first)
        for t in range(horizon):
            # Within 1 stands for the box, of +-3; or the larger one is chosen.
            action = 3 * raw[t, i] if continuous else jnp.argmax(raw[t, i])
            state, reward, terminated = own_step(state, action)
            after = states[t + 1]
            assert after.reward[i] == reward and not terminated
            last = t == horizon - 1
            assert bool(after.done[i]) == last
            # Time is up: that is no termination, and Brax starts where it first did.
            assert bool(after.info["truncation"][i]) == last
            expected = first if last else task.observe(state)
            np.testing.assert_allclose(after.obs[i], expected, rtol=1e-5, atol=1e-6)
        # The step after that is the first of a new episode.
        assert states[horizon + 1].info["steps"][i] == 1
        assert not states[horizon + 1].done[i]
    # Control: the episodes are not all the same.
    assert not np.allclose(states[1].obs[0], states[1].obs[1])


def test_a_task_that_ends_is_done_and_not_out_of_time():
    task = make("cartpole")
    with _brax._brax_rules():
        env = _wrapped(task, 200)
        step, state = jax.jit(env.step), jax.jit(env.reset)(_keys(1))
        for _ in range(200):
            state = step(state, jnp.array([[1.0, 0.0]]))
            if state.done[0]:
                break
    # Pushed to one side all the time, the pole falls.
    assert state.info["steps"][0] < 20 and state.info["truncation"][0] == 0


def test_only_tasks_in_jax():
    with pytest.raises(ValueError, match="physics='mjx'"):
        to_brax(make("hopper", physics="mujoco"))


@pytest.mark.parametrize("algorithm", nightly(["ppo", "sac"], ["ppo"]))
def test_a_policy_of_brax_does_the_same_in_our_form(algorithm):
    task = make("reacher", physics="mujoco")
    networks = _brax.ppo_networks if algorithm == "ppo" else _brax.sac_networks
    make_networks = getattr(networks, f"make_{algorithm}_networks")
    random = np.random.default_rng(0)
    observations = jnp.asarray(3 + 2 * random.normal(size=(20, 10)), jnp.float32)
    with _brax._brax_rules():
        network = make_networks(
            10, 2, preprocess_observations_fn=running_statistics.normalize
        )
        normaliser = running_statistics.init_state(specs.Array((10,), jnp.float32))
        normaliser = running_statistics.update(normaliser, observations)
        params = network.policy_network.init(jr.PRNGKey(0))
        act = networks.make_inference_fn(network)((normaliser, params), True)
        expected = act(observations, jr.PRNGKey(0))[0]
    activation = "swish" if algorithm == "ppo" else "relu"
    policy = _brax.to_policy(task, params["params"], activation, normaliser)
    np.testing.assert_allclose(jax.vmap(policy)(observations), expected, atol=1e-5)
    # Control: what it sees is standardised.
    other = _brax.to_policy(task, params["params"], activation, None)
    assert not np.allclose(jax.vmap(other)(observations), expected, atol=0.1)


_TINY = {
    "brax-ars": "--num-envs 8 --top 2",
    "ppo": "--num-envs 8 --minibatches 2 --hidden 4 --critic-hidden 4",
    "sac": "--num-envs 4 --hidden 4 --batch-size 8 --warm-up 100 --updates 1",
}


@pytest.mark.parametrize("algorithm", nightly(_TINY, ["ppo", "sac"]))
def test_a_run(algorithm, tmp_path):
    run = tmp_path / "run"
    flags = f"--algorithm {algorithm} --env lqr --horizon 20 --steps 640 --iterations 2"
    flags += f" --normalise --run-dir {run} {_TINY[algorithm]}"
    assert train.main(flags.split()) == 0
    names = {path.name for path in run.iterdir() if "tfevents" not in path.name}
    assert names == {
        *("config.json", "metrics.jsonl", "checkpoints", "policy.eqx"),
        *("return.png", "evaluation.json"),
    }
    lines = (run / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    first = 1 if algorithm == "brax-ars" else 0
    assert [row["iteration"] for row in rows] == list(range(first, 3))
    assert rows[-1]["env_steps"] >= 640
    # LQR always starts at 1, and the policy has no noise: our evaluation of the policy
    # in our form finds what Brax's own found.
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["std"] == pytest.approx(0, abs=1e-3)
    assert evaluation["mean"] == pytest.approx(rows[-1]["return_policy"], rel=1e-3)


def test_rows_share_the_steps_out():
    # 49 updates of 4,096 steps: in 17 rows of three they are 51, in 20 they were 60.
    config = PPOConfig(iterations=20, steps=200_000)
    assert _brax._rows(config, 4096) == 17
    assert _brax._rows(PPOConfig(steps=1), 4096) == 1
