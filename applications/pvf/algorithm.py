"""PSVF and PAVF: fit V(s, θ) or Q(s, a, θ) to single steps, then ascend it in θ.

Source: Faccio, Kirsch and Schmidhuber (2021), "Parameter-based Value Functions". One
round, with θ the policy and N environments:

1. θ̃ᵢ = θ + σ εᵢ for i = 1..N, each of which takes a segment of steps;
2. the segments go into the replay, each with its θ̃ᵢ;
3. by turns, the critic is fitted to λ-returns along segments of the replay, and θ
   ascends the mean over states of V(s, θ), or of Q(s, π_θ(s), θ).

Without θ in the critic (`--representation none`) this is an ordinary actor-critic, over
a population of perturbed policies.
"""

from typing import Any, final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from applications.envs import AbstractEnvironment, Continuous
from applications.policies import (
    AbstractPolicy,
    FlatView,
    NoisyPolicy,
    RunningStatistics,
    StochasticPolicy,
)
from applications.pvf._frame import Frame, scale_of_rewards
from applications.pvf._learning import (
    Actor,
    ascend,
    Critic,
    fit_critic,
    scan_modules,
)
from applications.pvf._start import draw_critics, draw_policy, empty_replay
from applications.pvf.config import Config
from applications.rollout import engine_for, Episode, Unrolled
from applications.search import (
    AbstractStepSearch,
    Actors,
    draw_noise,
    Metrics,
    SearchState,
)
from applications.settings import UserError
from applications.stores import Replay, Segment
from applications.values import (
    correlation,
    rescaled,
    schedule,
    StepValue,
)


# States over which the value of a fresh policy is the mean.
_STATES = 256


class Learned(eqx.Module):
    """What the algorithm keeps from one round to the next.

    Attributes:
        actor: The policy.
        critic: The value function.
        replay: Segments of the last rounds.
        acting: Weights of the perturbed policies as they act, one a row.
        is_done: Whose episode has ended, so that it is drawn anew.
        reward_scale: What rewards were multiplied by in the last round; 0 before any.
    """

    actor: Actor
    critic: Critic
    replay: Replay
    acting: Float[Array, "environments weights"]
    is_done: Bool[Array, " environments"]
    reward_scale: Float[Array, ""]


class Keys(NamedTuple):
    """The randomness of one round."""

    rollout: PRNGKeyArray
    learn: PRNGKeyArray
    next: PRNGKeyArray


@final
class PVF(AbstractStepSearch[Learned, Keys]):
    """The algorithm for one task and one setting.

    Attributes:
        task: What the policies act in.
        config: The settings.
        view: From vectors θ to policies and back.
        value: How the critic is asked.
    """

    task: AbstractEnvironment
    config: Config = eqx.field(static=True)
    view: FlatView[AbstractPolicy]
    value: StepValue

    def __init__(self, task: AbstractEnvironment, config: Config):
        """Prepares the algorithm.

        Args:
            task: What the policies act in.
            config: The settings.

        Raises:
            UserError: If the settings are not for such actions, or steps of the task
                cannot be had.
        """
        is_continuous = isinstance(task.action_space, Continuous)
        if (
            config.critic == "pavf"
            and config.policy_kind == "deterministic"
            and not is_continuous
        ):
            raise UserError(
                "--policy-kind deterministic has no gradient by way of discrete "
                "actions: add --policy-kind stochastic, or --critic psvf."
            )
        try:
            # It says so before anything is compiled.
            engine_for(task).compile_unroll(self.make_actor, steps=config.segment)
        except ValueError as error:
            raise UserError(f"Steps of this task cannot be had: {error}") from error
        self.task = task
        self.config = config
        self.view = FlatView(draw_policy(task, config, key=jr.key(0)))
        self.value = StepValue(task.action_space, config.critic == "pavf")

    def init(self, *, key: PRNGKeyArray) -> SearchState[Learned]:
        """Draws policy and critic; the replay is empty."""
        config = self.config
        policy_key, critic_key, run_key = jr.split(key, 3)
        weights = self.view.to_vector(draw_policy(self.task, config, key=policy_key))
        critics = draw_critics(self.task, config, self.view, self.value, key=critic_key)
        learned = Learned(
            Actor.start(weights, config),
            Critic.start(critics, config),
            empty_replay(self.task, config, weights.size),
            jnp.zeros((config.num_envs, weights.size)),
            jnp.ones(config.num_envs, bool),
            jnp.zeros(()),
        )
        return self.start(learned, key=run_key)

    def split(self, key: PRNGKeyArray) -> Keys:
        """Splits the key of a round by purpose."""
        return Keys(*jr.split(key, 3))

    def propose(self, state: SearchState[Learned], keys: Keys) -> Actors:
        """Step 1: θ̃ᵢ = θ + σ εᵢ, or the same as before where an episode goes on."""
        fresh = self._perturbed(state, self.config.num_envs, key=keys.rollout)
        if self.config.redraw == "episode":
            learned = state.learned
            fresh = jnp.where(learned.is_done[:, None], fresh, learned.acting)
        return Actors((fresh, self._action_noise(state, len(fresh))), context=fresh)

    def make_actor(self, row: PyTree[Array]) -> Any:
        """A perturbed policy; a deterministic one with noise on its actions."""
        weights, action_noise = row
        policy = self.view.to_policy(weights)
        if self.config.policy_kind == "stochastic":
            return policy
        return NoisyPolicy(policy, action_noise)

    def learn(
        self,
        state: SearchState[Learned],
        actors: Actors,
        unrolled: Unrolled,
        observations: RunningStatistics,
        keys: Keys,
    ) -> tuple[Learned, Metrics]:
        """Steps 2 and 3: store the segments; fit the critic and ascend it, by turns."""
        config, learned = self.config, state.learned
        replay = learned.replay.add(self._segments(unrolled, actors.context))
        scale = scale_of_rewards(config, replay, self.task.horizon)
        frame = self._frame(state, observations, scale)
        # Values stay what they are in rewards.
        before = learned.reward_scale
        change = jnp.where(before > 0, scale / jnp.where(before > 0, before, 1.0), 1.0)
        present = lambda critics: frame.compare(
            rescaled(critics, change), learned.actor.weights, replay
        )
        critic = Critic(
            present(learned.critic.critics),
            learned.critic.optimiser,
            present(learned.critic.target),
        )

        def fit(carry: Any, key: PRNGKeyArray) -> tuple[Any, Metrics]:
            actor, critic = carry
            return fit_critic(actor, critic, replay, frame, key=key)

        def turn(carry: Any, key: PRNGKeyArray) -> tuple[Any, Metrics]:
            fit_key, ascent_key = jr.split(key)
            keys = jr.split(fit_key, config.policy_delay)
            (actor, critic), fitted = scan_modules(fit, carry, keys)
            actor, ascended = ascend(actor, critic, replay, frame, key=ascent_key)
            return (actor, critic), jax.tree.map(jnp.mean, fitted) | ascended

        (actor, critic), metrics = scan_modules(
            turn, (learned.actor, critic), jr.split(keys.learn, config.updates)
        )
        unknown = jnp.full((), jnp.nan)
        metrics = jax.tree.map(jnp.mean, metrics) | {
            "weight_norm": jnp.linalg.norm(actor.weights),
            "noise_scale": frame.noise_scale,
            "nan_steps": jnp.sum(~unrolled.transitions.valid),
            "value_correlation": unknown,
            "start_correlation": unknown,
        }
        is_done = jnp.any(unrolled.finished.ended, axis=0)
        learned = Learned(actor, critic, replay, actors.context, is_done, scale)
        return learned, metrics

    def policy(self, state: SearchState[Learned]) -> AbstractPolicy:
        """Returns the unperturbed policy; of a distribution, the one without noise."""
        weights = state.learned.actor.weights[None]
        acting = self.fold_normalisation(weights, state.observations)[0]
        policy = self.view.to_policy(acting)
        return policy.mean if isinstance(policy, StochasticPolicy) else policy

    # What acts.

    def _noise_share(self, state: SearchState[Learned]) -> Float[Array, ""]:
        """The share of the noise that is left."""
        config = self.config
        share = schedule(
            1.0, config.noise_schedule, config.all_rounds, end=config.noise_end
        )
        return jnp.asarray(share(state.iteration), jnp.float32)

    def _noise_scale(self, state: SearchState[Learned]) -> Float[Array, ""]:
        return self.config.noise_scale * self._noise_share(state)

    def _frame(
        self,
        state: SearchState[Learned],
        observations: RunningStatistics,
        reward_scale: Float[Array, ""],
    ) -> Frame:
        """How states, rewards and policies are shown in a round."""
        return Frame(
            self.config,
            self.view,
            self.value,
            observations,
            self._noise_scale(state),
            reward_scale,
        )

    def _action_noise(
        self, state: SearchState[Learned], count: int
    ) -> Float[Array, " policies"]:
        scale = self.config.action_noise * self._noise_share(state)
        return jnp.broadcast_to(scale, (count,))

    def _perturbed(
        self, state: SearchState[Learned], count: int, *, key: PRNGKeyArray
    ) -> Float[Array, "policies weights"]:
        """Perturbed policies, for observations as they are."""
        weights = state.learned.actor.weights
        noise = draw_noise("gaussian", count, weights.size, key=key)
        candidates = weights[None] + self._noise_scale(state) * noise
        return self.fold_normalisation(candidates, state.observations)

    # What is learned from.

    def _segments(
        self, unrolled: Unrolled, acting: Float[Array, "environments weights"]
    ) -> Segment:
        """The steps of a round, environment by environment."""
        steps = jax.tree.map(
            lambda leaf: jnp.moveaxis(leaf, 1, 0), unrolled.transitions
        )
        is_stochastic = self.config.policy_kind == "stochastic"
        return Segment(
            observation=steps.observation,
            drawn=self.value.drawn(steps),
            log_prob=steps.extras.log_prob if is_stochastic else None,
            reward=steps.reward,
            next_observation=steps.next_observation,
            terminated=steps.terminated,
            truncated=steps.truncated,
            valid=steps.valid,
            # Of a policy that is not finite all steps are broken; but gradients of 0
            # would be multiplied by its weights.
            weights=(
                jnp.where(jnp.isfinite(acting), acting, 0.0)
                if self.config.keeps_policies
                else None
            ),
        )

    # Whether values are right.

    def fresh(self, state: SearchState[Learned], *, key: PRNGKeyArray) -> PyTree[Array]:
        """Draws perturbed policies as those that act."""
        count = self.config.fresh_policies
        acting = self._perturbed(state, count, key=key)
        return acting, self._action_noise(state, count)

    def judge(
        self, state: SearchState[Learned], population: PyTree[Array], episodes: Episode
    ) -> Metrics:
        """Correlates values of fresh policies with their returns.

        The value of a policy is the mean over states of the replay, as it is ascended,
        or that of its start state.
        """
        learned, seen = state.learned, state.observations
        frame = self._frame(state, seen, jnp.ones(()))
        acting = self.unfold_normalisation(population[0], seen)
        sample = learned.replay.sample(_STATES, 1, key=state.key)
        states = frame.states(sample.observation[:, 0])
        starts = frame.states(episodes.start)

        def of_one(weights: Array, start: Array) -> tuple[Array, Array]:
            values = self.value.of_policy(
                learned.critic.critics,
                frame.read(weights),
                self.view.to_policy(weights),
                jnp.concatenate([states, start]),
                key=state.key,
            )
            means = jnp.mean(values, axis=0)
            return jnp.mean(means[:_STATES]), jnp.mean(means[_STATES:])

        of_states, of_starts = jax.vmap(of_one)(acting, starts)
        returns, valid = episodes.total_reward[:, 0], episodes.valid[:, 0]
        return {
            "value_correlation": correlation(of_states, returns, valid),
            "start_correlation": correlation(of_starts, returns, valid),
        }
