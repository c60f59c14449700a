"""EPVF: fit V(θ) to the returns of perturbed policies, then ascend its gradient.

Source: Bohlinger and Peters (2025), "Massively Scaling Explicit Policy-conditioned
Value Functions", on the start-state value function of Faccio et al. (2021),
"Parameter-based Value Functions". One iteration, with θ the policy, N environments:

1. θ̃ᵢ = θ + σ εᵢ for i = 1..N, and one return Gᵢ for each, all in parallel;
2. (θ̃ᵢ, Gᵢ) go into the archive;
3. V is fitted to the archive by mean squared error;
4. θ takes gradient steps up V(θ), and is clipped to a box after each.
"""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from applications.archive import Archive
from applications.envs import AbstractTask
from applications.epvf.config import Config
from applications.policy import FlatView, MLPPolicy
from applications.rollout import rollout
from applications.value import correlation, RankTargets, StandardTargets, ValueFunction
from wsl.encoders import Flat, Probing


class Record(eqx.Module):
    """What the archive keeps of one perturbed policy.

    Attributes:
        weights: Its weights θ̃.
        returns: Undiscounted return of each of its episodes.
        starts: First observation of each of its episodes.
    """

    weights: Float[Array, "*batch weights"]
    returns: Float[Array, "*batch episodes"]
    starts: Float[Array, "*batch episodes observation"]


class State(eqx.Module):
    """Everything that an iteration reads and writes.

    Attributes:
        policies: Weights θ of the unperturbed policies, one a row.
        policy_optimiser: Adam's moments for them.
        value: The value function.
        value_optimiser: Adam's moments for it.
        archive: Perturbed policies and their returns.
        iteration: How many iterations are done.
        key: Source of the randomness to come.
    """

    policies: Float[Array, "policies weights"]
    policy_optimiser: optax.OptState
    value: ValueFunction
    value_optimiser: optax.OptState
    archive: Archive[Record]
    iteration: Int[Array, ""]
    key: PRNGKeyArray


Metrics = dict[str, Float[Array, ""] | Int[Array, ""]]


@final
class EPVF(eqx.Module):
    """The algorithm for one task and one setting.

    Attributes:
        task: What the policies act in.
        config: The settings.
        view: From vectors θ to policies and back.
    """

    task: AbstractTask
    config: Config = eqx.field(static=True)
    view: FlatView[MLPPolicy]

    def __init__(self, task: AbstractTask, config: Config):
        """Prepares the algorithm.

        Args:
            task: What the policies act in.
            config: The settings.
        """
        self.task = task
        self.config = config
        self.view = FlatView(MLPPolicy(task, config.hidden, key=jr.key(0)))

    def init(self, *, key: PRNGKeyArray) -> State:
        """Draws the state before the first iteration.

        Args:
            key: Source of all randomness of the run.

        Returns:
            The state, with an empty archive.
        """
        config = self.config
        policy_key, value_key, run_key = jr.split(key, 3)
        count = config.num_envs if config.policies == "many" else 1
        policies = jax.vmap(
            lambda key: self.view.to_vector(
                MLPPolicy(self.task, config.hidden, key=key)
            )
        )(jr.split(policy_key, count))
        value = self._make_value(key=value_key)
        record = Record(
            jnp.zeros((config.num_envs, policies.shape[1])),
            jnp.zeros((config.num_envs, config.episodes)),
            jnp.zeros((config.num_envs, config.episodes, self.task.observation_size)),
        )
        return State(
            policies,
            self._policy_optimiser.init(policies),
            value,
            self._value_optimiser.init(eqx.filter(value, eqx.is_array)),
            Archive.empty(record, config.archive),
            jnp.zeros((), jnp.int32),
            run_key,
        )

    def step(self, state: State) -> tuple[State, Metrics]:
        """One iteration.

        Args:
            state: The state before.

        Returns:
            The state after, and scalar metrics under the names that
            `metrics.jsonl` has.
        """
        noise_key, rollout_key, value_key, policy_key, next_key = jr.split(state.key, 5)

        perturbed = self._perturb(state, key=noise_key)
        fresh, unperturbed, metrics = self._collect(state, perturbed, key=rollout_key)
        metrics["critic_correlation"] = correlation(
            self._values(state.value, fresh).ravel(), self._labels(fresh).ravel()
        )
        archive = state.archive.add(fresh)
        value, value_optimiser, loss = self._fit(state, archive, key=value_key)
        policies, policy_optimiser = self._ascend(state, value, archive, key=policy_key)
        metrics |= {
            "return_policy": jnp.mean(unperturbed),
            "critic_loss": loss,
            "weight_norm": jnp.mean(jnp.linalg.norm(policies, axis=1)),
            "share_at_clip": self._share_at_clip(policies),
        }
        state = State(
            policies,
            policy_optimiser,
            value,
            value_optimiser,
            archive,
            state.iteration + 1,
            next_key,
        )
        return state, metrics

    def policy(self, state: State) -> MLPPolicy:
        """The policy that a run stands for.

        Args:
            state: The run's state.

        Returns:
            The unperturbed policy; of many, the one with the highest value. For
            V(s, θ) that is the mean over the start states in the archive.
        """
        if state.policies.shape[0] == 1:
            return self.view.to_policy(state.policies[0])
        starts = state.archive.entries.starts[: self.config.num_envs, 0]
        values = self._policy_values(state.value, state.policies, starts)
        return self.view.to_policy(state.policies[jnp.argmax(values)])

    # Collecting.

    def _perturb(
        self, state: State, *, key: PRNGKeyArray
    ) -> Float[Array, "envs weights"]:
        config = self.config
        shape = (config.num_envs, state.policies.shape[1])
        if config.noise == "uniform":
            noise = jr.uniform(key, shape, minval=-1.0, maxval=1.0)
        else:
            noise = jr.normal(key, shape)
        schedule = config.schedule(config.noise_scale, config.noise_schedule, 1)
        with _optax_promotion():
            scale = schedule(state.iteration)
        perturbed = state.policies + scale * noise
        if config.clip == "perturbed":
            perturbed = jnp.clip(perturbed, -config.weight_clip, config.weight_clip)
        return perturbed

    def _collect(
        self,
        state: State,
        perturbed: Float[Array, "envs weights"],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Record, Float[Array, "policies episodes"], Metrics]:
        """Rolls out perturbed and unperturbed policies together."""
        config = self.config
        # Of many policies, as many are watched as one policy has watched episodes.
        watched = jnp.resize(
            state.policies, (config.watch_episodes, state.policies.shape[1])
        )
        episodes = rollout(
            self.task,
            self.view.to_policy,
            jnp.concatenate([perturbed, watched]),
            episodes=config.episodes,
            chunk=config.chunk,
            key=key,
        )
        ours, theirs = (
            jax.tree.map(lambda leaf: leaf[: config.num_envs], episodes),
            jax.tree.map(lambda leaf: leaf[config.num_envs :], episodes),
        )
        returns = jnp.mean(ours.total_reward, axis=1)
        metrics: Metrics = {
            "return_perturbed_mean": jnp.mean(returns),
            "return_perturbed_max": jnp.max(returns),
            "env_steps": jnp.sum(ours.length),
            "nan_episodes": jnp.sum(ours.broke) + jnp.sum(theirs.broke),
        }
        return (
            Record(perturbed, ours.total_reward, ours.start),
            theirs.total_reward,
            metrics,
        )

    # The critic.

    def _make_value(self, *, key: PRNGKeyArray) -> ValueFunction:
        config = self.config
        encoder_key, head_key = jr.split(key)
        if config.representation == "flat":
            encoder = Flat(self.view.space)
        else:
            encoder = Probing(
                self.task.observation_size,
                self.task.action_space.output_size,
                config.num_probes,
                initializer=jax.nn.initializers.normal(config.probe_scale),
                key=encoder_key,
            )
        return ValueFunction(
            encoder,
            config.critic_width,
            config.critic_depth,
            state_size=self.task.observation_size if config.start_states else 0,
            key=head_key,
        )

    def _labels(self, records: Record) -> Float[Array, "batch values"]:
        """Returns to learn: for V(θ) the mean over episodes, for V(s, θ) each one's."""
        if self.config.start_states:
            return records.returns
        return jnp.mean(records.returns, axis=1, keepdims=True)

    def _values(
        self, value: ValueFunction, records: Record
    ) -> Float[Array, "batch values"]:
        """V of the policies in records, in the order of their labels."""

        def of_policy(weights, starts):
            policy = self.view.to_policy(weights)
            return jax.vmap(lambda start: value(policy, start))(starts)

        count = self.config.episodes if self.config.start_states else 1
        return jax.vmap(of_policy)(records.weights, records.starts[:, :count])

    def _fit(
        self, state: State, archive: Archive[Record], *, key: PRNGKeyArray
    ) -> tuple[ValueFunction, optax.OptState, Float[Array, ""]]:
        """Gradient steps on the mean squared error over the archive."""
        config = self.config
        labels = self._labels(archive.entries)
        make_targets = StandardTargets if config.targets == "standard" else RankTargets
        targets = make_targets(
            labels.ravel(), jnp.repeat(archive.filled, labels.shape[1])
        )
        arrays, rest = eqx.partition(state.value, eqx.is_array)

        def loss_of(arrays, records: Record):
            predictions = self._values(eqx.combine(arrays, rest), records)
            return jnp.mean((predictions - targets(self._labels(records))) ** 2)

        def update(carry, key):
            arrays, optimiser = carry
            records = archive.sample(config.resolved_batch_size, key=key)
            loss, gradient = jax.value_and_grad(loss_of)(arrays, records)
            with _optax_promotion():
                change, optimiser = self._value_optimiser.update(gradient, optimiser)
            return (eqx.apply_updates(arrays, change), optimiser), loss

        (arrays, optimiser), losses = jax.lax.scan(
            update,
            (arrays, state.value_optimiser),
            jr.split(key, config.critic_updates),
        )
        return eqx.combine(arrays, rest), optimiser, jnp.mean(losses)

    # The policy.

    def _policy_values(
        self,
        value: ValueFunction,
        policies: Float[Array, "policies weights"],
        starts: Float[Array, "starts observation"],
    ) -> Float[Array, " policies"]:
        """V of each policy, averaged over start states."""
        if not self.config.start_states:
            starts = starts[:1]

        def of_policy(weights):
            policy = self.view.to_policy(weights)
            return jnp.mean(jax.vmap(lambda start: value(policy, start))(starts))

        return jax.vmap(of_policy)(policies)

    def _ascend(
        self,
        state: State,
        value: ValueFunction,
        archive: Archive[Record],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, "policies weights"], optax.OptState]:
        """Gradient steps up the value, each followed by the clip."""
        config = self.config

        def total_value(policies, starts):
            return jnp.sum(self._policy_values(value, policies, starts))

        def update(carry, key):
            policies, optimiser = carry
            starts = archive.sample(config.resolved_batch_size, key=key).starts[:, 0]
            gradient = jax.grad(total_value)(policies, starts)
            with _optax_promotion():
                change, optimiser = self._policy_optimiser.update(-gradient, optimiser)
            policies = eqx.apply_updates(policies, change)
            if config.clip != "none":
                policies = jnp.clip(policies, -config.weight_clip, config.weight_clip)
            return (policies, optimiser), None

        (policies, optimiser), _ = jax.lax.scan(
            update,
            (state.policies, state.policy_optimiser),
            jr.split(key, config.policy_updates),
        )
        return policies, optimiser

    def _share_at_clip(
        self, policies: Float[Array, "policies weights"]
    ) -> Float[Array, ""]:
        return jnp.mean(jnp.abs(policies) >= self.config.weight_clip)

    # The optimisers.

    @property
    def _policy_optimiser(self) -> optax.GradientTransformation:
        config = self.config
        return optax.adam(
            config.schedule(
                config.policy_lr, config.policy_lr_schedule, config.policy_updates
            )
        )

    @property
    def _value_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.config.critic_lr)


def _optax_promotion():
    """Optax mixes counts and rates, which strict dtype promotion forbids."""
    return jax.numpy_dtype_promotion("standard")
