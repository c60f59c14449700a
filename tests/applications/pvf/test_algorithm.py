"""PSVF and PAVF: the fit by a loop, policies as they acted, broken steps, memory."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from applications.envs import make
from applications.policies import RunningStatistics, standardised
from applications.pvf import Config, PVF
from applications.pvf._frame import Frame, scale_of_rewards
from applications.pvf._learning import _evaluated, fit_critic
from applications.settings import UserError
from applications.stores import Replay, Segment
from tests.applications.pvf.helpers import one, run, small
from tests.helpers import nightly


_KINDS: dict[str, dict[str, Any]] = {
    "actor-critic": {},
    "relabelled": {"representation": "probing", "relabel": True, "corrected": True},
    "psvf": {"critic": "psvf", "representation": "equivariant", "redraw": "episode"},
    "likelihood-ratio": {
        "policy_kind": "stochastic",
        "policy_gradient": "likelihood-ratio",
        "representation": "flat",
        "ensemble": 2,
    },
}


def _segment(search: PVF, count: int) -> Segment:
    """Drawn steps: one terminated, one cut off, one broken."""
    config, shape = search.config, (count, search.config.segment)
    keys = jr.split(jr.key(1), 5)
    no = jnp.zeros(shape, bool)
    return Segment(
        observation=jr.normal(keys[0], (*shape, 1)),
        drawn=jr.uniform(keys[1], (*shape, 1), minval=-1.0),
        log_prob=None,
        reward=jr.normal(keys[2], shape),
        next_observation=jr.normal(keys[3], (*shape, 1)),
        terminated=no.at[0, 2].set(True),
        truncated=no.at[1, 1].set(True),
        valid=(~no).at[2, 1].set(False),
        weights=(
            jr.normal(keys[4], (count, search.view.space.size))
            if config.keeps_policies
            else None
        ),
    )


@pytest.mark.parametrize("critic", nightly(["pavf", "psvf"], {"psvf"}))
def test_a_step_of_the_critic_equals_a_loop(critic):
    options: dict[str, Any] = {
        "critic": critic,
        "representation": "flat",
        "inputs": "raw",
    }
    options |= {"segment": 4}
    search = small(**options, normalise=False, lambda_=0.7, target_rate=0.2)
    state = search.init(key=jr.key(0))
    actor, before = state.learned.actor, state.learned.critic
    # A slow copy of another critic, to tell the two apart.
    other = small(**options).init(key=jr.key(5)).learned.critic.critics
    before = eqx.tree_at(lambda c: c.target, before, other)
    count = search.config.batch_segments
    replay = Replay.empty(_segment(search, count), 1).add(_segment(search, count))
    # A key by which each of them is drawn.
    for key in jr.split(jr.key(2), 50):
        segments = replay.sample(count, 4, key=jr.split(key, 4)[0])
        if len(np.unique(segments.reward[:, 0])) == count:
            break
    else:
        raise AssertionError
    frame = Frame(
        *(search.config, search.view, search.value, state.observations),
        *(jnp.asarray(0.1), jnp.asarray(2.0)),
    )
    fit = eqx.filter_jit(fit_critic)
    (_, after), metrics = fit(actor, before, replay, frame, key=key)

    def say(critics, policy, state, action):
        critic = one(critics)
        given = state if critic_reads_no_action else jnp.concatenate([state, action])
        return critic.value(critic.code(policy), given)

    critic_reads_no_action = critic == "psvf"
    discount, trace = search.config.discount, 0.7
    assert segments.weights is not None
    kept: Any = segments.weights
    flags = (segments.terminated, segments.truncated, segments.valid)
    terminated, truncated, valid = map(np.asarray, flags)

    def target_of(critics, i):
        """Of one segment, from its last step back."""
        policy: Any = search.view.to_policy(kept[i])
        targets, later = [], jnp.zeros(())
        for t in reversed(range(search.config.segment)):
            after = segments.next_observation[i, t]
            value = say(critics, policy, after, policy(after) / 4)
            value = jnp.zeros(()) if terminated[i, t] else value
            ends = terminated[i, t] or truncated[i, t] or not valid[i, t]
            if ends or t == search.config.segment - 1 or not valid[i, t + 1]:
                later = value
            mixed = (1 - trace) * value + trace * later
            later = jnp.asarray(2.0 * segments.reward[i, t] + discount * mixed)
            targets.append(later)
        return jnp.stack(targets[::-1])

    arrays, rest = eqx.partition(before.critics, eqx.is_inexact_array)
    all_targets = eqx.filter_jit(
        lambda critics: jnp.stack([target_of(critics, i) for i in range(count)])
    )
    fixed = all_targets(before.target)

    def loss_of(arrays, targets=None):
        critics, total = eqx.combine(arrays, rest), jnp.zeros(())
        for i in range(count):
            policy: Any = search.view.to_policy(kept[i])
            own = target_of(critics, i) if targets is None else targets[i]
            of = jax.vmap(lambda s, a, policy=policy: say(critics, policy, s, a))
            error = of(segments.observation[i], segments.drawn[i]) - own
            total += jnp.sum(jnp.square(error), where=valid[i])
        return total / float(valid.sum())

    loss, gradient = jax.jit(jax.value_and_grad(loss_of))(arrays, fixed)
    np.testing.assert_allclose(metrics["critic_loss"], loss, rtol=1e-4)
    with jax.numpy_dtype_promotion("standard"):
        optimiser = optax.adam(search.config.critic_lr)
        change, _ = optimiser.update(gradient, optimiser.init(arrays))
    expected = eqx.apply_updates(arrays, change)
    ours = eqx.filter(after.critics, eqx.is_inexact_array)
    _assert_close(ours, expected)
    follows = jax.tree.map(
        lambda slow, fast: slow + 0.2 * (fast - slow),
        eqx.filter(before.target, eqx.is_inexact_array),
        expected,
    )
    _assert_close(eqx.filter(after.target, eqx.is_inexact_array), follows)
    # Neither by the gradient of the targets too, nor by those of the critic itself.
    whole = jax.jit(jax.grad(loss_of))(arrays)
    worst = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), whole, gradient)
    assert max(jax.tree.leaves(worst)) > 0.05
    assert np.max(np.abs(all_targets(before.critics) - fixed)) > 0.05


def _assert_close(ours: Any, theirs: Any) -> None:
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_rewards_that_cancel_out_are_no_part_of_their_scale():
    search = small(segment=4, discount=0.9)
    segment = _segment(search, 3)
    # The last segment's second step is broken.
    told = jnp.array([[5.0, -5.0, 5.0, -5.0], [1.0] * 4, [2.0, 99.0, 2.0, 2.0]])
    segment = eqx.tree_at(lambda s: s.reward, segment, told)
    replay = Replay.empty(segment, 2).add(segment)
    # A step earned 0, 1 and 2 in the mean.
    expected = 0.1 / np.sqrt((0 + 1 + 4) / 3)
    scale = lambda config, replay: scale_of_rewards(config, replay, 1000)
    np.testing.assert_allclose(scale(search.config, replay), expected, rtol=1e-6)
    nothing = eqx.tree_at(lambda s: s.reward, segment, told.at[1:].set(0.0))
    assert scale(search.config, Replay.empty(nothing, 2).add(nothing)) == 1
    assert scale(small(segment=4, scale_rewards=False).config, replay) == 1


def test_policies_are_kept_as_they_acted():
    search = small(representation="flat", noise_scale=0.5)
    state = search.init(key=jr.key(0))
    then = RunningStatistics(jnp.asarray(9.0), jnp.full(1, -0.2), jnp.full(1, 3.0))
    state = eqx.tree_at(lambda state: state.observations, state, then)
    acting, _ = search.propose(state, search.split(state.key)).population
    segments = eqx.tree_at(lambda s: s.weights, _segment(search, 4), acting)
    now = RunningStatistics(jnp.asarray(9.0), jnp.full(1, 0.7), jnp.full(1, 36.0))
    at = jnp.full(1, 0.4)
    for seen in (then, now):
        frame = Frame(
            *(search.config, search.view, search.value, seen),
            *(jnp.asarray(0.1), jnp.ones(())),
        )
        actor = state.learned.actor
        shown = _evaluated(actor, segments, frame, key=jr.key(0))
        # By whatever statistics, the policy does what it did.
        for weights, kept in zip(shown, acting, strict=True):
            again: Any = standardised(search.view.to_policy(weights), seen)
            acted: Any = search.view.to_policy(kept)
            np.testing.assert_allclose(again(at), acted(at), rtol=1e-4)
    # Not so of the same numbers, taken for those of standardised observations.
    wrong: Any = standardised(search.view.to_policy(acting[0]), now)
    acted = search.view.to_policy(acting[0])
    assert np.abs(wrong(at) - acted(at)) > 0.01


def test_policies_stay_until_their_episodes_end():
    state = small().init(key=jr.key(0))
    before = jnp.arange(8.0).reshape(4, 2)
    done = jnp.asarray([True, False, True, False])
    where = lambda state: (state.learned.acting, state.learned.is_done)
    state = eqx.tree_at(where, state, (before, done))
    for redraw, stays in (("episode", ~done), ("segment", done & False)):
        search = small(redraw=redraw)
        acting = search.propose(state, search.split(state.key)).context
        np.testing.assert_array_equal(np.all(acting == before, axis=1), stays)


@pytest.mark.parametrize(
    "kind", nightly(_KINDS, {"actor-critic", "relabelled", "psvf"})
)
def test_broken_steps_poison_nothing(kind):
    search = small(**_KINDS[kind])
    key = jr.key(3)
    state = search.begin(key=key)
    actors = search.propose(state, search.split(state.key))
    weights, noise = actors.population
    broken = weights.at[1].set(jnp.nan)
    iteration: Any = search.compile(state)
    unrolled, _ = iteration._unroll((broken, noise), np.arange(4), state.environments)
    assert not unrolled.transitions.valid.all()
    actors = eqx.tree_at(lambda actors: actors.context, actors, broken)
    learn = eqx.filter_jit(search.after_round)
    after, metrics = learn(state, actors, unrolled)
    assert metrics["nan_steps"] == 6
    learned = (after.learned.actor, after.learned.critic, after.observations)
    for leaf in jax.tree.leaves(eqx.filter(learned, eqx.is_inexact_array)):
        assert np.isfinite(leaf).all()
    assert np.isfinite(metrics["critic_loss"])
    assert np.any(after.learned.actor.weights != state.learned.actor.weights)


@pytest.mark.nightly
def test_policies_act_until_their_episodes_end():
    # Episodes of 12 steps are two segments.
    search = small(horizon=12, redraw="episode")
    state = search.begin(key=jr.key(0))
    iteration, found = search.compile(state), []
    for _ in range(4):
        state, _ = iteration(state)
        found.append(np.asarray(state.learned.acting))
    first, second, third, fourth = found
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(third, fourth)
    assert np.all(second != third)


@pytest.mark.nightly
def test_two_devices_learn_the_same(use_devices):
    found = []
    for number in (1, 2):
        use_devices(number)
        state, rows = run(small(representation="flat"), 2)
        found.append((np.asarray(state.learned.actor.weights), rows))
    (alone, rows), (shared, others) = found
    # How sums are ordered may differ in the last bit.
    np.testing.assert_allclose(shared, alone, rtol=1e-3, atol=1e-5)
    assert others[0]["env_steps"] == rows[0]["env_steps"] == 24


@pytest.mark.nightly
def test_both_engines_take_the_steps():
    rewards = []
    for env in ("inverted_pendulum", "cartpole"):
        options: dict[str, Any] = {}
        if env == "cartpole":
            options = {"policy_kind": "stochastic"}
        _, rows = run(small(env, 8, **options), 1)
        assert np.isfinite(rows[0]["critic_loss"])
        rewards.append(rows[0]["return_policy"])
    assert all(np.isfinite(rewards))


def test_a_thousand_policies_of_64_64_fit_in_four_gigabytes():
    config = Config(num_envs=1000, hidden=(64, 64), representation="flat")
    search = PVF(make("half_cheetah"), config)
    state = eqx.filter_eval_shape(lambda key: search.init(key=key), jr.key(0))
    is_form = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)
    forms = jax.tree.leaves(eqx.filter(state, is_form))
    size = sum(form.size * form.dtype.itemsize for form in forms)
    # A million steps of 168 bytes, and 20,000 policies of 5,702 weights.
    assert 0.6e9 < size < 0.7e9


def test_deterministic_actions_that_have_no_gradient_are_refused():
    with pytest.raises(UserError, match="--policy-kind stochastic"):
        small("cartpole")
