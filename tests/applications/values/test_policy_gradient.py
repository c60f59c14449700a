"""Both terms of the gradient: on LQR by autodiff, on two states by differences."""

import functools
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from applications.envs import AbstractTask, Continuous, Discrete, make, TaskFacts
from applications.policies import FlatView, MLPPolicy, StochasticPolicy
from applications.values import (
    likelihood_ratio_terms,
    pathwise_terms,
    StepValue,
    Visited,
)


_DISCOUNT = 0.9


class ExactLQR(eqx.Module):
    """V(s, θ) or Q(s, a, θ) of LQR: the rollout itself."""

    place: Array
    task: Any = eqx.field(static=True)
    view: FlatView
    reads_actions: bool = eqx.field(static=True)

    def code(self, policy):
        return self.view.to_vector(policy)

    def value(self, code, conditions):
        policy = self.view.to_policy(code)
        if not self.reads_actions:
            return self.rollout(policy, conditions)
        # In halves of the range, which is from -4 to 4.
        state, action = conditions[:1], 4 * conditions[1:]
        after, reward, _ = self.task.step(state, action)
        return reward + _DISCOUNT * self.rollout(policy, after)

    def rollout(self, policy, state):
        def step(carry, _):
            state, factor = carry
            after, reward, _ = self.task.step(state, policy(state))
            return (after, factor * _DISCOUNT), factor * reward

        carry = (state, jnp.ones((), state.dtype))
        return jnp.sum(jax.lax.scan(step, carry, length=300)[1])


def test_both_terms_are_the_gradient_of_the_rollout():
    with jax.enable_x64(True):
        task = make("lqr")
        view = FlatView(MLPPolicy(task, (), key=jax.random.key(0)))
        weights = jnp.asarray([-0.12, 0.03])
        states = jnp.linspace(-0.9, 1.1, 7)[:, None]
        visited = Visited(states, jnp.zeros((7, 1)), None, jnp.ones(7, bool))
        exact = ExactLQR(jnp.zeros(1), task, view, True)

        def objective(weights):
            policy = view.to_policy(weights)
            return jnp.mean(jax.vmap(lambda s: exact.rollout(policy, s))(states))

        truth = jax.jit(jax.grad(objective))(weights)

        def terms_of(reads_actions):
            critic = ExactLQR(jnp.zeros(1), task, view, reads_actions)
            value = StepValue(task.action_space, reads_actions)
            return jax.jit(
                lambda weights: pathwise_terms(
                    *(value, critic, view.to_policy, view.to_policy, weights, visited),
                    reads_policies=True,
                    key=jax.random.key(0),
                )
            )(weights)

        action, theta, _ = terms_of(True)
        np.testing.assert_allclose(action + theta, truth, rtol=1e-5)
        # Neither of them alone, the classical gradient among them.
        for term in (action, theta):
            assert np.max(np.abs(term - truth)) > 0.05 * np.max(np.abs(truth))
        # V(s, θ) has the second one only, which then is all.
        none, theta, _ = terms_of(False)
        assert none is None
        np.testing.assert_allclose(theta, truth, rtol=1e-5)


class TwoStates(AbstractTask):
    """Two states, shown one-hot, and two actions; never stepped here."""

    observation_size: ClassVar[int] = 2
    action_space: ClassVar[Discrete] = Discrete(2)
    facts: ClassVar[TaskFacts] = TaskFacts()
    horizon: int = eqx.field(static=True, default=1)

    def reset(self, *, key):
        return jnp.zeros(2)

    def observe(self, state):
        return state

    def step(self, state, action):
        raise NotImplementedError


# Chances to get to the second state, and rewards, by state and action.
_TO_SECOND = np.array([[0.2, 0.9], [0.6, 0.3]])
_REWARDS = np.array([[1.0, -0.5], [0.3, 2.0]])


class ExactTwoStates(eqx.Module):
    """Q(s, a, θ) by solving the linear equations of the policy."""

    place: Array

    def code(self, policy):
        chances = jax.nn.softmax(jax.vmap(policy.mean.unbounded)(jnp.eye(2)))
        to = jnp.stack([1 - _TO_SECOND, jnp.asarray(_TO_SECOND)], axis=-1)
        step = jnp.einsum("sa,sat->st", chances, to)
        earned = jnp.sum(chances * _REWARDS, axis=1)
        values = jnp.linalg.solve(jnp.eye(2) - _DISCOUNT * step, earned)
        table = _REWARDS + _DISCOUNT * jnp.einsum("sat,t->sa", to, values)
        return jnp.asarray(table).ravel()

    def value(self, code, conditions):
        return conditions[:2] @ code.reshape(2, 2) @ conditions[2:]


# Of sixteen visits four are in the first state. What was done there, by rates that are
# not the policy's, and by the policy's own.
_ACTIONS = {
    "other": ([0, 0, 1, 1], [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    "own": ([0, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]),
}
# The policy takes the first action with chances 1/4 and 1/2.
_LOGITS = np.log([[0.25, 0.75], [0.5, 0.5]])


def _two_states() -> tuple[FlatView, Array, Any]:
    policy = StochasticPolicy.around(
        MLPPolicy(TwoStates(), (), key=jax.random.key(0)), 1.0
    )
    where = lambda policy: (policy.mean.layers[0].weight, policy.mean.layers[0].bias)
    filled = (jnp.asarray(_LOGITS.T), jnp.asarray([0.0, 0.0]))
    policy = eqx.tree_at(where, policy, filled)
    view = FlatView(policy)

    def objective(weights):
        policy = view.to_policy(weights)
        table = ExactTwoStates(jnp.zeros(1)).code(policy).reshape(2, 2)
        chances = jax.nn.softmax(jax.vmap(policy.mean.unbounded)(jnp.eye(2)))
        return jnp.sum(jnp.asarray([0.25, 0.75]) * jnp.sum(chances * table, axis=1))

    return view, view.to_vector(policy), jax.jit(objective)


def _visits(kind: str) -> Visited:
    first, second = map(np.array, _ACTIONS[kind])
    states = np.repeat(np.eye(2), [4, 12], axis=0)
    actions = np.concatenate([first, second])
    chances = np.concatenate(
        [np.where(a == 0, np.mean(a == 0), np.mean(a == 1)) for a in (first, second)]
    )
    arrays = (states, np.eye(2)[actions], np.log(chances), np.ones(16, bool))
    return Visited(*map(jnp.asarray, arrays))


def test_the_stochastic_theorem_on_two_states():
    with jax.enable_x64(True):
        view, weights, objective = _two_states()
        step = 1e-5 * np.eye(len(weights))
        truth = np.array(
            [(objective(weights + e) - objective(weights - e)) / 2e-5 for e in step]
        )
        value, critic = StepValue(Discrete(2), True), ExactTwoStates(jnp.zeros(1))

        @functools.partial(jax.jit, static_argnums=(1, 2))
        def terms_of(visits, importance, baseline):
            return likelihood_ratio_terms(
                *(value, critic, view.to_policy, view.to_policy, weights, visits),
                reads_policies=True,
                importance=importance,
                largest=1e9,
                baseline=baseline,
            )

        def total(kind, importance, *, baseline=False, theta=True):
            terms = terms_of(_visits(kind), importance, baseline)
            assert terms.action is not None and terms.theta is not None
            return terms.action + terms.theta if theta else terms.action

        for weighed in (
            total("other", "clip"),
            total("other", "clip", baseline=True),
            # All visits are there: ratios have mean 1.
            total("other", "self-normalised"),
            # The policy's own visits need no ratios.
            total("own", "none"),
        ):
            np.testing.assert_allclose(weighed, truth, atol=1e-7)
        # The mean over actions has no need of what was done.
        action, theta, _ = jax.jit(
            lambda visits: pathwise_terms(
                *(value, critic, view.to_policy, view.to_policy, weights, visits),
                reads_policies=True,
                key=jax.random.key(0),
            )
        )(_visits("other"))
        assert action is not None and theta is not None
        np.testing.assert_allclose(action + theta, truth, atol=1e-7)
        # Others' visits without ratios, and the first term alone, are off.
        for wrong in (total("other", "none"), total("own", "none", theta=False)):
            assert np.max(np.abs(wrong - truth)) > 0.02


_effective = eqx.filter_jit(likelihood_ratio_terms)


@pytest.mark.parametrize("shares, effective", [((1.0, 1.0), 1.0), ((3.0, 1.0), 0.8)])
def test_the_effective_sample(shares, effective):
    with jax.enable_x64(True):
        view, weights, _ = _two_states()
        one = jax.tree.map(lambda leaf: leaf[:2], _visits("own"))
        policy: Any = view.to_policy(weights)
        own = jax.vmap(policy.log_prob)(one.states, one.drawn)
        # (3 + 1)² / (2 (9 + 1)) = 0.8.
        visits = one._replace(log_prob=own - jnp.log(jnp.asarray(shares)))
        terms = _effective(
            *(StepValue(Discrete(2), True), ExactTwoStates(jnp.zeros(1))),
            *(view.to_policy, view.to_policy, weights, visits),
            reads_policies=False,
            importance="clip",
            largest=2.0,
            baseline=False,
        )
        assert terms.theta is None
        assert terms.effective == pytest.approx(effective)


def test_actions_are_read_in_halves_of_their_range():
    value = StepValue(Continuous((0.0,), (4.0,)), True)
    task = make("lqr")
    policy = MLPPolicy(task, (), key=jax.random.key(0))
    policy = eqx.tree_at(
        lambda p: (p.layers[0].weight, p.layers[0].bias),
        policy,
        (jnp.zeros((1, 1)), jnp.full(1, 0.5)),
    )
    states = jnp.ones((1, 1))

    class Second(eqx.Module):
        place: Array

        def code(self, policy):
            return jnp.zeros(0)

        def value(self, code, conditions):
            return conditions[1]

    said = value.of_policy(
        Second(jnp.zeros(1)), policy, policy, states, key=jax.random.key(0)
    )
    # The policy puts out 4 tanh(0.5), which is that much of [0, 4] around 2.
    np.testing.assert_allclose(said, (4 * np.tanh(0.5) - 2) / 2, rtol=1e-5)
    squashed = value.conditions(states, jnp.full((1, 1), 0.7), before_tanh=True)
    np.testing.assert_allclose(squashed, [[1.0, np.tanh(0.7)]], rtol=1e-6)
