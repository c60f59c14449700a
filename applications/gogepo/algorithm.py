"""GoGePo: generate policies by command, and learn to from what they did.

Source: Faccio, Herrmann, Ramesh, Kirsch and Schmidhuber (2022), "Goal-Conditioned
Generators of Deep Policies". One iteration, with G the generator, V the evaluator and
N environments:

1. commands c₁..c_N, half of them beyond the archive's top tenth, the others up to it;
2. θᵢ = G(cᵢ) + σ εᵢ, and what comes of an episode of each, oᵢ, all in parallel;
3. (θᵢ, oᵢ) go into the archive, from which recent entries are drawn more often;
4. V is fitted to the archive: V(θ) is to be o, by mean squared error;
5. G takes steps down the mean of (V(G(c)) - c)², V frozen, for commands c that are
   outcomes drawn from the archive.

The paper has one environment, and commands a step beyond the best return so far.
Several at once, and so commands over the whole range at once, are ours, and so are the
options for what is commanded; to go by the top of the archive is Srivastava et al.'s
(2019, "Training Agents using Upside-Down Reinforcement Learning"). Where the released
code does otherwise than it seems to mean to:

- it divides commands by their range, and leaves their offset; here the generator
  standardises both (`--command-scale`);
- its loops make 4 and 19 updates where 5 and 20 are configured; the numbers are flags;
- its first command is 1 in any task; here the best outcome so far is at first the lower
  end of the range;
- on Hopper it plots returns with the survival bonus against commands without; here all
  outcomes are of the reward that is learned from (`--survival-bonus`).
"""

import functools
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.gogepo._commands import Commands, make_commands
from applications.gogepo._exploring import Attempt, explore, Seen
from applications.gogepo._generator import context_of, make_generator
from applications.gogepo._losses import evaluator_loss, generator_loss, targets_of
from applications.gogepo.config import Config
from applications.policies import FlatView, MLPPolicy, Moments
from applications.rollout import Episode
from applications.search import AbstractPolicySearch, Metrics
from applications.stores import Archive
from applications.values import (
    correlation,
    descend,
    make_encoder,
    schedule,
    StandardTargets,
    value_function,
)
from wsl.encoders import EncodedMLP
from wsl.generators import AbstractGenerator


class Model(eqx.Module):
    """What has been learned: all that it takes to write policies.

    Attributes:
        generator: From a command to a policy.
        value: The evaluator, from a policy to its outcome in units of the targets.
        targets: From outcomes to what the evaluator learns, by their mean and standard
            deviation in the archive; one of each for each number.
        outcomes: The range of what was done.
        seen: Moments of all observations so far.
    """

    generator: AbstractGenerator
    value: EncodedMLP
    targets: StandardTargets
    outcomes: Seen
    seen: Moments


class State(eqx.Module):
    """Everything that an iteration reads and writes.

    Attributes:
        model: What has been learned.
        generator_optimiser: Adam's moments for the generator.
        value_optimiser: Adam's moments for the evaluator.
        archive: Policies and what they did.
        iteration: How many iterations are done.
        key: Source of the randomness to come.
    """

    model: Model
    generator_optimiser: optax.OptState
    value_optimiser: optax.OptState
    archive: Archive[Attempt]
    iteration: Int[Array, ""]
    key: PRNGKeyArray


class Trial(eqx.Module):
    """The policies that an iteration tries.

    Attributes:
        commands: What they are to do.
        population: Their weights: first with noise, to learn from, then without.
        acting: The same, with the standardisation of observations put into them.
        key: Draws their episodes.
    """

    commands: Float[Array, "policies outcomes"]
    population: Float[Array, "policies weights"]
    acting: Float[Array, "policies weights"]
    key: PRNGKeyArray


@final
class GoGePo(AbstractPolicySearch):
    """The algorithm for one task and one setting.

    Attributes:
        task: What the policies act in.
        config: The settings, with nothing left to the preset.
        commands: What can be commanded.
        view: From vectors θ to policies and back.
    """

    task: AbstractEnvironment
    config: Config = eqx.field(static=True)
    commands: Commands = eqx.field(static=True)
    view: FlatView[MLPPolicy]

    def __init__(self, task: AbstractEnvironment, config: Config):
        """Prepares the algorithm.

        Args:
            task: What the policies act in.
            config: The settings.

        Raises:
            UserError: If the task cannot be commanded so.
        """
        self.task = task
        self.config = config = config.resolved()
        self.commands = make_commands(
            config.command_kind,
            config.env,
            task,
            low=config.low,
            high=config.high,
            drive=config.drive,
        )
        self.view = FlatView(self._draw_policy(jr.key(0)))

    def init(self, *, key: PRNGKeyArray) -> State:
        """Draws the state before the first iteration.

        Args:
            key: Source of all randomness of the run.

        Returns:
            The state, with an empty archive.
        """
        own = self.config.own
        generator_key, encoder_key, head_key, run_key = jr.split(key, 4)
        generator = make_generator(
            self.config, self.task, self._draw_policy, self.commands, key=generator_key
        )
        encoder = make_encoder(
            self.config.representation,
            self.task,
            self._draw_policy(jr.key(0)),
            self.config.encoder_options,
            key=encoder_key,
        )
        value = value_function(
            encoder,
            self.config.critic_width,
            self.config.critic_depth,
            out_size=self.commands.size,
            key=head_key,
        )
        size = own["num_envs"]
        attempt = Attempt(
            jnp.zeros((size, self.view.space.size)),
            jnp.zeros((size, self.commands.size)),
            jnp.zeros(size, bool),
        )
        archive = Archive.empty(attempt, own["archive"])
        seen = Moments.empty(self.task.observation_size)
        return State(
            Model(
                generator, value, targets_of(archive), Seen.none(self.commands), seen
            ),
            self._generator_optimiser.init(eqx.filter(generator, eqx.is_inexact_array)),
            self._value_optimiser.init(eqx.filter(value, eqx.is_inexact_array)),
            archive,
            jnp.zeros((), jnp.int32),
            run_key,
        )

    def propose(self, state: State) -> Trial:
        """The policies to try in an iteration.

        Args:
            state: The state before it.

        Returns:
            Generated policies: with noise for commands that explore, and without for
            some to watch.
        """
        command_key, latent_key, noise_key, rollout_key, *_ = jr.split(state.key, 7)
        config, outcomes = self.config, state.model.outcomes
        explored = explore(
            config.own["strategy"],
            config.own["num_envs"],
            self.commands,
            outcomes,
            state.archive,
            key=command_key,
        )
        watched = outcomes.between(config.eval_episodes)
        commands = jnp.concatenate([explored, watched])
        weights = self.generate(state.model, commands, key=latent_key)
        count = len(explored)

        def draw(index):
            return jr.normal(jr.fold_in(noise_key, index), (self.view.space.size,))

        noise = jax.vmap(draw)(jnp.arange(count))
        scale_at = schedule(
            config.noise_scale, config.noise_schedule, config.own["iterations"]
        )
        population = weights.at[:count].add(scale_at(state.iteration) * noise)
        acting = self.acting(population, state.model.seen)
        return Trial(commands, population, acting, rollout_key)

    def learn(
        self, state: State, trial: Trial, episodes: Episode
    ) -> tuple[State, Metrics]:
        """What an iteration does with the episodes of the policies it tried.

        Args:
            state: The state before.
            trial: What was tried.
            episodes: How it went, `(policies, episodes)`.

        Returns:
            As `step`.
        """
        own = self.config.own
        *_, fit_key, generator_key, next_key = jr.split(state.key, 7)
        outcomes = jnp.mean(self.commands.measure(episodes), axis=1)
        valid = jnp.all(episodes.valid, axis=1)
        metrics = self._describe(state, trial, episodes, outcomes, valid)
        count = own["num_envs"]
        fresh = Attempt(trial.population[:count], outcomes[:count], valid[:count])
        archive = state.archive.add(fresh)
        targets = targets_of(archive)
        seen = state.model.outcomes.add(fresh)
        value, value_optimiser, critic_loss = descend(
            evaluator_loss(self.config, self.view, targets, archive),
            state.model.value,
            self._value_optimiser,
            state.value_optimiser,
            updates=own["critic_updates"],
            key=fit_key,
        )
        generator, generator_optimiser, loss = descend(
            generator_loss(
                self.config,
                self.view,
                value,
                targets,
                archive,
                functools.partial(self._context_of, seen),
            ),
            state.model.generator,
            self._generator_optimiser,
            state.generator_optimiser,
            updates=own["generator_updates"],
            key=generator_key,
        )
        metrics |= {"critic_loss": critic_loss, "generator_loss": loss}
        observed = state.model.seen.join(episodes.seen)
        after = State(
            Model(generator, value, targets, seen, observed),
            generator_optimiser,
            value_optimiser,
            archive,
            state.iteration + 1,
            next_key,
        )
        return after, metrics

    def generate(
        self,
        model: Model,
        commands: Float[Array, "policies outcomes"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "policies weights"]:
        """Writes policies.

        Args:
            model: What was learned.
            commands: What they are to do.
            key: Draws latents, for generators that have some; without one they are 0.

        Returns:
            Their weights, for standardised observations.
        """

        def write(index, command):
            own_key = None if key is None else jr.fold_in(key, index)
            context = self._context_of(model.outcomes, command)
            policy: Any = model.generator(context, key=own_key)
            return self.view.to_vector(policy)

        return jax.vmap(write)(jnp.arange(len(commands)), commands)

    def predict(
        self, model: Model, population: Float[Array, "policies weights"]
    ) -> Float[Array, "policies outcomes"]:
        """What the evaluator expects of policies, in the units of commands."""
        return jax.vmap(
            lambda weights: model.targets.inverse(
                model.value(self.view.to_policy(weights))
            )
        )(population)

    def write(
        self,
        model: Model,
        command: Float[Array, " outcomes"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> MLPPolicy:
        """A policy for a command, to act on observations as they are.

        Args:
            model: What was learned.
            command: What it is to do.
            key: As `generate` has it.

        Returns:
            The policy.
        """
        weights = self.generate(model, command[None], key=key)
        return self.view.to_policy(self.acting(weights, model.seen)[0])

    def policy(self, state: State) -> MLPPolicy:
        """The policy that a run stands for: that for the best outcome so far."""
        return self.write(state.model, state.model.outcomes.best)

    def _describe(
        self,
        state: State,
        trial: Trial,
        episodes: Episode,
        outcomes: Float[Array, "policies outcomes"],
        valid: Bool[Array, " policies"],
    ) -> Metrics:
        count = self.config.own["num_envs"]
        returns = episodes.total_reward
        finite = episodes.valid
        best = jnp.where(finite[:count], returns[:count], -jnp.inf)
        expected = self.predict(state.model, trial.population)
        given, done = trial.commands[count:, 0], outcomes[count:, 0]
        watched = valid[count:]
        return {
            "return_perturbed_mean": jnp.mean(returns[:count], where=finite[:count]),
            "return_perturbed_max": jnp.max(best),
            "return_policy": jnp.mean(returns[-1], where=finite[-1]),
            "command_best": state.model.outcomes.best[0],
            "command_error": jnp.mean(jnp.abs(given - done), where=watched),
            "command_correlation": correlation(given, done, watched),
            "critic_correlation": correlation(
                expected[:count, 0], outcomes[:count, 0], valid[:count]
            ),
            "env_steps": jnp.sum(episodes.length[:count]),
            "nan_episodes": jnp.sum(~finite),
        }

    def _context_of(
        self, seen: Seen, command: Float[Array, " outcomes"]
    ) -> Float[Array, " outcomes"]:
        return context_of(self.config, self.commands, seen, command)

    def _draw_policy(self, key: PRNGKeyArray) -> MLPPolicy:
        return MLPPolicy(self.task, self.config.own["hidden"], key=key)

    @property
    def _value_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.config.own["critic_lr"])

    @property
    def _generator_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.config.own["generator_lr"])
