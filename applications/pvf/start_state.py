"""PSSVF: fit V(θ) to the returns of whole episodes, then ascend it.

Source: Faccio, Kirsch and Schmidhuber (2021), "Parameter-based Value Functions", the
start-state value function. One iteration, with θ the policy and N environments:

1. θ̃ᵢ = θ + σ εᵢ for i = 1..N, each of which makes an episode with return Gᵢ;
2. (θ̃ᵢ, Gᵢ) go into the archive;
3. V is fitted to batches of the archive, by steps of Adam on the squared error;
4. θ ascends V(θ), by steps of Adam.

`applications.epvf` has the same with critics, targets and steps that learn faster from
many policies at once.
"""

from typing import Any, final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.policies import AbstractPolicy, FlatView
from applications.pvf._start import draw_policy
from applications.pvf.config import Config
from applications.search import (
    AbstractPolicySearch,
    draw_noise,
    Metrics,
    Outcome,
    Proposal,
    SearchState,
)
from applications.settings import UserError
from applications.stores import Archive
from applications.values import (
    correlation,
    descend,
    make_encoder,
    schedule,
    StandardTargets,
    surrounded,
    Surroundings,
    update_of,
    value_function,
)
from wsl.encoders import EncodedMLP


# Bytes that the weights in the archive may take.
_MEMORY = 4 << 30


class Tried(eqx.Module):
    """What the archive keeps of a policy.

    Attributes:
        weights: Its weights, as it acted on observations as they are.
        total: Its return.
        valid: Whether its episode stayed finite to its end.
    """

    weights: Float[Array, "*batch weights"]
    total: Float[Array, "*batch"]
    valid: Float[Array, "*batch"]


class Learned(eqx.Module):
    """What the algorithm keeps from one iteration to the next.

    Attributes:
        weights: θ.
        policy_optimiser: Adam's moments for it.
        value: V.
        critic_optimiser: Adam's moments for it.
        archive: Policies and their returns.
    """

    weights: Float[Array, " weights"]
    policy_optimiser: optax.OptState
    value: EncodedMLP
    critic_optimiser: optax.OptState
    archive: Archive[Tried]


class Keys(NamedTuple):
    """The randomness of one iteration."""

    noise: PRNGKeyArray
    rollout: PRNGKeyArray
    fit: PRNGKeyArray
    next: PRNGKeyArray


@final
class PSSVF(AbstractPolicySearch[Learned, Keys]):
    """The algorithm for one task and one setting.

    Attributes:
        task: What the policies act in.
        config: The settings.
        view: From vectors θ to policies and back.
    """

    task: AbstractEnvironment
    config: Config = eqx.field(static=True)
    view: FlatView[AbstractPolicy]

    def __init__(self, task: AbstractEnvironment, config: Config):
        """Prepares the algorithm.

        Args:
            task: What the policies act in.
            config: The settings.

        Raises:
            UserError: If the archive would not fit into memory.
        """
        self.task = task
        self.config = config
        self.view = FlatView(draw_policy(task, config, key=jr.key(0)))
        size = self.view.space.size
        if 4 * size * config.replay > _MEMORY:
            raise UserError(
                f"--replay {config.replay} policies of {size} weights take more than "
                f"{_MEMORY >> 30} GB: lower it to {_MEMORY // (4 * size)} or less."
            )

    def init(self, *, key: PRNGKeyArray) -> SearchState[Learned]:
        """Draws policy and value function; the archive is empty."""
        config = self.config
        policy_key, encoder_key, head_key, run_key = jr.split(key, 4)
        policy = draw_policy(self.task, config, key=policy_key)
        weights = self.view.to_vector(policy)
        options = config.encoder_options
        encoder = make_encoder(
            config.representation, self.task, policy, options, key=encoder_key
        )
        width, depth = config.critic_width, config.critic_depth
        value = value_function(encoder, width, depth, key=head_key)
        arrays = eqx.filter(value, eqx.is_inexact_array)
        batch, totals = config.num_envs, jnp.zeros(config.num_envs)
        empty = Tried(jnp.zeros((batch, weights.size)), totals, totals)
        learned = Learned(
            weights,
            self._policy_optimiser.init(weights),
            value,
            optax.adam(config.critic_lr).init(arrays),
            Archive.empty(empty, max(config.replay // batch, 1)),
        )
        return self.start(learned, key=run_key)

    def split(self, key: PRNGKeyArray) -> Keys:
        """Splits the key of an iteration by purpose."""
        return Keys(*jr.split(key, 4))

    def propose(self, state: SearchState[Learned], keys: Keys) -> Proposal:
        """Step 1: θ̃ᵢ = θ + σ εᵢ; beside them θ itself, to see how it stands."""
        config, weights = self.config, state.learned.weights
        noise = draw_noise("gaussian", config.num_envs, weights.size, key=keys.noise)
        candidates = weights[None] + self._noise_scale(state) * noise
        return Proposal(candidates, jnp.tile(weights, (config.eval_episodes, 1)))

    def learn(
        self,
        state: SearchState[Learned],
        proposal: Proposal,
        outcome: Outcome,
        keys: Keys,
    ) -> tuple[Learned, Metrics]:
        """Steps 2 to 4: store (θ̃ᵢ, Gᵢ), fit V to the archive, ascend V(θ)."""
        config, learned = self.config, state.learned
        tried = outcome.candidates
        valid = tried.valid[:, 0]
        fresh = Tried(
            outcome.acting, tried.total_reward[:, 0], valid.astype(jnp.float32)
        )
        archive = learned.archive.add(fresh)
        value = self._with_surroundings(learned.value, state, proposal.candidates)
        said = jax.vmap(lambda weights: value(self.view.to_policy(weights)))(
            proposal.candidates
        )
        there = archive.filled & (archive.entries.valid > 0)
        targets: Any = lambda returns: returns
        if config.scale_rewards:
            targets = StandardTargets(archive.entries.total, there)

        def loss_of(value: EncodedMLP, key: PRNGKeyArray) -> Float[Array, ""]:
            batch = archive.sample(config.batch_segments, key=key)
            shown = self.unfold_normalisation(batch.weights, outcome.observations)
            values = jax.vmap(lambda weights: value(self.view.to_policy(weights)))(
                shown
            )
            error = jnp.square(values - targets(batch.total)) * batch.valid
            return jnp.sum(error) / jnp.maximum(jnp.sum(batch.valid), 1.0)

        value, critic_optimiser, loss = descend(
            loss_of,
            value,
            optax.adam(config.critic_lr),
            learned.critic_optimiser,
            updates=config.critic_updates,
            key=keys.fit,
        )

        def ascend(carry: Any, _: None) -> tuple[Any, Array]:
            weights, optimiser = carry
            gradient = jax.grad(lambda w: value(self.view.to_policy(w)))(weights)
            change, optimiser = update_of(self._policy_optimiser, -gradient, optimiser)
            weights = eqx.apply_updates(weights, change)
            return (weights, optimiser), jnp.linalg.norm(gradient)

        (weights, optimiser), norms = jax.lax.scan(
            ascend,
            (learned.weights, learned.policy_optimiser),
            length=config.policy_updates,
        )
        metrics = {
            "critic_loss": loss,
            "theta_term": jnp.mean(norms),
            "weight_norm": jnp.linalg.norm(weights),
            "noise_scale": self._noise_scale(state),
            "value_correlation": correlation(said, fresh.total, valid),
        }
        return Learned(weights, optimiser, value, critic_optimiser, archive), metrics

    def policy(self, state: SearchState[Learned]) -> AbstractPolicy:
        """Returns the unperturbed policy."""
        weights = state.learned.weights[None]
        acting = self.fold_normalisation(weights, state.observations)
        return self.view.to_policy(acting[0])

    @property
    def _iterations(self) -> int:
        """How many there are if all episodes last to their end."""
        return -(-self.config.steps // (self.config.num_envs * self.task.horizon))

    def _noise_scale(self, state: SearchState[Learned]) -> Float[Array, ""]:
        config = self.config
        share = schedule(
            1.0, config.noise_schedule, self._iterations, end=config.noise_end
        )
        share = jnp.asarray(share(state.iteration), jnp.float32)
        return config.noise_scale * share

    def _with_surroundings(
        self,
        value: EncodedMLP,
        state: SearchState[Learned],
        candidates: Float[Array, "policies weights"],
    ) -> EncodedMLP:
        """V, whose encoder compares policies with the present one."""
        surroundings = Surroundings(
            centre=self.view.to_policy(state.learned.weights),
            noise_scale=jnp.maximum(self._noise_scale(state), 1e-6),
            fresh=jax.vmap(self.view.to_policy)(candidates),
            states=jnp.zeros((1, self.task.observation_size)),
        )
        encoder = surrounded(value.encoder, surroundings)
        return eqx.tree_at(lambda value: value.encoder, value, encoder)

    @property
    def _policy_optimiser(self) -> optax.GradientTransformation:
        config = self.config
        updates = self._iterations * config.policy_updates
        rate = schedule(config.policy_lr, config.policy_lr_schedule, updates)
        return optax.adam(rate)
