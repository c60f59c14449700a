"""What XLA computes of a block: its episodes are rows of arrays."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, PyTree

from applications.envs import AbstractOutcome
from applications.envs.native import NativeTask, Physics
from applications.rollout._policies import PolicyRows
from applications.rollout._population import axes_of, count_policies
from applications.rollout.engine import MakePolicy, Population
from applications.rollout.episode import all_finite, episode_keys, EpisodeTally
from applications.rollout.transitions import (
    Decision,
    episode_key,
    FinishedEpisodes,
    judge,
    Transitions,
)


@final
class Rows(eqx.Module):
    """Episodes under way, one a row, between acting and stepping.

    Attributes:
        physics: Where the policy acts next.
        observation: What it sees there.
        action: What it does there.
        ctrl: The control that this stands for.
        finite: Whether what the policy put out is finite.
        tally: The episode so far.
    """

    physics: Physics
    observation: Float[Array, "rows observation"]
    action: Float[Array, "rows action"]
    ctrl: Float[Array, "rows controls"]
    finite: Bool[Array, " rows"]
    tally: EpisodeTally


@final
class RowFunctions(eqx.Module):
    """The compiled functions of a task and of policies of one form.

    Attributes:
        task: The task.
        policies: The policies' form.
        outcome: What episodes are worth, if not the sum of their rewards.
    """

    task: NativeTask
    policies: PolicyRows
    outcome: AbstractOutcome | None = eqx.field(static=True)

    def __init__(
        self,
        task: NativeTask,
        make_policy: MakePolicy,
        population: Any,
        outcome: AbstractOutcome | None = None,
    ):
        """Prepares the functions.

        Args:
            task: The task.
            make_policy: From weights to a policy.
            population: A population, for its form.
            outcome: What episodes are worth, if not the sum of their rewards.
        """
        self.task = task
        self.outcome = outcome
        self.policies = PolicyRows(task.action_space, make_policy, population)

    # Whole episodes.

    def draw(
        self,
        population: Population,
        key: PRNGKeyArray,
        first: Int[Array, ""],
        size: int,
        *,
        episodes: int,
        common_starts: bool,
    ) -> tuple[PyTree[Array], Key[Array, " rows"], Array, Array]:
        """Policies, keys and start states of the episodes from number `first` on."""
        # What is beyond the last one fills up.
        last = count_policies(population) * episodes - 1
        number = jnp.minimum(first + jnp.arange(size), last)

        def of_one(number):
            policy, episode = number // episodes, number % episodes
            own_key = episode_keys(key, policy, episodes, common_starts)[episode]
            return own_key, *self.task.definition.initial(key=own_key)

        policies = self.policies.policies(population, number // episodes)
        return policies, *jax.vmap(of_one)(number)

    def first(
        self,
        policies: PyTree[Array],
        keys: Key[Array, " rows"],
        qpos: Float[Array, "rows positions"],
        qvel: Float[Array, "rows velocities"],
        derived: dict[str, Float[Array, "rows ..."]],
    ) -> tuple[Rows, Float[Array, "rows observation"]]:
        """What the policies do first, and what they see there."""
        ctrl = jnp.zeros((len(qpos), self.task.model.nu), qpos.dtype)
        physics = Physics(qpos, qvel, ctrl, jnp.zeros_like(qvel), derived)
        length = jnp.zeros(len(qpos), jnp.int32)
        decision, ctrl, finite = self.act(policies, keys, length, physics)

        def of_one(start: Array) -> EpisodeTally:
            tally = EpisodeTally.start(start, self.task.horizon, self.outcome)
            return tally.see(start)

        tally = jax.vmap(of_one)(decision.observation)
        seen = decision.observation
        return Rows(physics, seen, decision.action, ctrl, finite, tally), seen

    def next(
        self,
        policies: PyTree[Array],
        keys: Key[Array, " rows"],
        rows: Rows,
        qpos: Float[Array, "rows positions"],
        qvel: Float[Array, "rows velocities"],
        derived: dict[str, Float[Array, "rows ..."]],
    ) -> Rows:
        """Judges the step just made, and lets the policies act."""
        definition = self.task.definition
        after = Physics(qpos, qvel, rows.ctrl, jnp.zeros_like(qvel), derived)
        reward = jax.vmap(definition.reward)(rows.physics, after, rows.action)
        ended = jax.vmap(definition.terminated)(after)
        finite = rows.finite & jax.vmap(all_finite)((after, reward))

        def add(tally, reward, ended, finite, after):
            seen = None if self.outcome is None else definition.observe(after)
            return tally.add(reward, terminated=ended, finite=finite, observation=seen)

        tally = jax.vmap(add)(rows.tally, reward, ended, finite, after)
        decision, ctrl, finite = self.act(policies, keys, tally.length, after)
        tally = jax.vmap(EpisodeTally.see)(tally, decision.observation)
        seen = decision.observation
        return Rows(after, seen, decision.action, ctrl, finite, tally)

    def act(
        self,
        policies: PyTree[Array],
        keys: Key[Array, " rows"],
        length: Int[Array, " rows"],
        physics: Physics,
    ) -> tuple[Decision, Float[Array, "rows controls"], Bool[Array, " rows"]]:
        """What policies do, controls, and whether outputs are finite."""
        definition = self.task.definition

        def of_one(policy, key, length, physics):
            observation = definition.observe(physics)
            decision = self.policies.act_one(policy, key, length, observation)
            finite = all_finite(decision.output)
            # MuJoCo would print what it thinks of other controls.
            ctrl = jnp.where(finite, definition.control(decision.action), 0.0)
            return decision, ctrl, finite

        axes = (axes_of(policies), 0, 0, 0)
        return jax.vmap(of_one, axes)(policies, keys, length, physics)

    # Episodes that start anew.

    def judge(
        self,
        tally: EpisodeTally,
        decision: Decision,
        finite: Bool[Array, " rows"],
        before: Physics,
        after: Physics,
        policy: Int[Array, " rows"],
    ) -> tuple[EpisodeTally, FinishedEpisodes, Transitions]:
        """Counts the step just made, and starts the next episodes where some ended."""
        definition = self.task.definition

        def of_one(tally, decision, finite, before, after, policy):
            reward = definition.reward(before, after, decision.action)
            return judge(
                tally,
                decision,
                reward=reward,
                next_observation=definition.observe(after),
                terminated=definition.terminated(after),
                finite=finite & all_finite((after, reward)),
                policy=policy,
            )

        return jax.vmap(of_one)(tally, decision, finite, before, after, policy)


def start(
    task: NativeTask,
    key: PRNGKeyArray,
    environments: Int[Array, " rows"],
    episodes: Int[Array, " rows"],
) -> tuple[Key[Array, " rows"], Array, Array]:
    """Keys and start states of episodes of environments."""

    def of_one(environment, episode):
        own_key = episode_key(key, environment, episode)
        return own_key, *task.definition.initial(key=own_key)

    return jax.vmap(of_one)(environments, episodes)


def start_tallies(
    task: NativeTask, size: int, outcome: AbstractOutcome | None = None
) -> EpisodeTally:
    """Tallies of episodes that start."""
    observations = jnp.zeros((size, task.observation_size))
    start = lambda seen: EpisodeTally.start(seen, task.horizon, outcome)
    return jax.vmap(start)(observations)
