"""GoGePo: generate policies by command, and learn to from what they did.

Source: Faccio, Herrmann, Ramesh, Kirsch and Schmidhuber (2022), "Goal-Conditioned
Generators of Deep Policies". One iteration, with G the generator, V the evaluator and
N environments of its own:

1. commands c₁..c_N, half of them beyond the archive's top tenth, the others up to it;
2. θᵢ = G(cᵢ) + σ εᵢ, and what comes of an episode of each, oᵢ, all in parallel;
3. (θᵢ, oᵢ) go into the archive, and so does what a climber beside them has tried in
   as many environments (`--climb`); half of what is drawn from it is recent, and half
   evenly over the outcomes (`--evenly`);
4. V is fitted to the archive: V(θ) is to be o, by mean squared error;
5. G takes steps down the mean of (V(G(c)) - c)² + |G(c) - θ|², V frozen, for policies θ
   that are drawn from the archive and what they did, c (`--loss`).

The paper has one environment, and commands a step beyond the best return so far.
Several at once, and so commands over the whole range at once, are ours, and so are the
options for what is commanded; so is the climber, and to draw evenly. The second part of
the loss is UDRLPG's (2025). To go by the top of the archive is Srivastava et al.'s
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
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.epvf import EPVF
from applications.gogepo._climbing import climb, make_climber, proposed
from applications.gogepo._commands import Commands, make_commands
from applications.gogepo._evaluator import judge, make_evaluator
from applications.gogepo._exploring import explore
from applications.gogepo._generator import context_of, make_generator
from applications.gogepo._learned import (
    Climbed,
    Keys as Keys,
    Learned as Learned,
    Model as Model,
    State as State,
)
from applications.gogepo._losses import (
    evaluator_loss,
    generator_loss,
    OutcomeTargets,
)
from applications.gogepo._outcomes import (
    draw_records,
    empty_archive,
    OutcomeStatistics,
    PolicyRecord,
    record_policies,
)
from applications.gogepo.config import Config
from applications.policies import (
    AbstractPolicy,
    FlatView,
    make_policy,
)
from applications.rollout import Episode
from applications.search import (
    AbstractPolicySearch,
    averaged,
    draw_noise,
    Metrics,
    Outcome,
    Proposal,
)
from applications.values import (
    correlation,
    descend,
    schedule,
)


# Of the key of a run: what the climber begins with.
_CLIMBING = 0x636C_696D


@final
class GoGePo(AbstractPolicySearch[Learned, Keys]):
    """The algorithm for one task and one setting.

    Attributes:
        task: What the policies act in.
        config: The settings, with nothing left to the preset.
        commands: What can be commanded.
        view: From rows to policies and back: from vectors θ, with the number of a
            condition at the end if commands have one.
        climber: What climbs beside the generator, if anything does.
    """

    task: AbstractEnvironment
    config: Config = eqx.field(static=True)
    commands: Commands = eqx.field(static=True)
    view: FlatView[AbstractPolicy]
    climber: EPVF | None

    def __init__(self, task: AbstractEnvironment, config: Config):
        """Prepares the algorithm.

        Args:
            task: What the policies act in.
            config: The settings.

        Raises:
            UserError: If the task cannot be commanded so.
        """
        self.task = task
        self.config = config
        self.commands = make_commands(
            config.command_kind,
            task,
            low=config.low,
            high=config.high,
            drive=config.drive,
            policy=config.policy,
            hidden=config.hidden,
        )
        policy = self._draw_policy(jr.key(0))
        command = jnp.asarray(self.commands.low)
        self.view = FlatView(self.commands.place(policy, command))
        self.climber = make_climber(task, config)

    def init(self, *, key: PRNGKeyArray) -> State:
        """Draws generator and evaluator; the archive is empty."""
        generator_key, encoder_key, head_key, run_key = jr.split(key, 4)
        generator = make_generator(
            self.config, self.task, self._draw_policy, self.commands, key=generator_key
        )
        value = make_evaluator(
            self.config,
            self.task,
            FlatView(self._draw_policy(jr.key(0))).like,
            self.commands,
            encoder_key=encoder_key,
            head_key=head_key,
        )
        weights = jnp.zeros((self.config.num_envs, self.view.space.size))
        archive = empty_archive(self.commands, weights, self.config.archive)
        learned = Learned(
            generator,
            generator if self.config.average else None,
            self._generator_optimiser.init(eqx.filter(generator, eqx.is_inexact_array)),
            value,
            self._value_optimiser.init(eqx.filter(value, eqx.is_inexact_array)),
            OutcomeTargets(self.config.targets, archive, self.commands.achieved),
            OutcomeStatistics.none(self.commands),
            archive,
            self._start_climbing(jr.fold_in(key, _CLIMBING)),
        )
        return self.start(learned, key=run_key)

    def split(self, key: PRNGKeyArray) -> Keys:
        """Splits the key of an iteration by purpose."""
        return Keys(*jr.split(key, 8))

    def propose(self, state: State, keys: Keys) -> Proposal:
        """Steps 1 and 2: commands that explore, and θᵢ = G(cᵢ) + σ εᵢ for them.

        Beside them policies without noise, for commands over the range of what was done
        up to the best. The context of the proposal are all commands. A climber's
        policies come last.
        """
        config, learned = self.config, state.learned
        explored = explore(
            config.strategy,
            config.num_envs - config.num_climbing,
            self.commands,
            learned.outcomes,
            learned.archive,
            key=keys.commands,
        )
        watched = self._to_watch(learned.outcomes)
        commands = jnp.concatenate([explored, watched])
        count = len(explored)
        model = self.model(state)
        newest = eqx.tree_at(lambda model: model.generator, model, learned.generator)
        weights = self.generate(newest, commands, key=keys.latents)
        exploring, evaluation = weights[:count], weights[count:]
        if learned.average is not None:
            latents = jr.fold_in(keys.latents, count)
            evaluation = self.generate(model, watched, key=latents)
        noise = draw_noise("gaussian", count, self.view.space.size, key=keys.noise)
        scale_at = schedule(
            config.noise_scale, config.noise_schedule, config.iterations
        )
        candidates = exploring + scale_at(state.iteration) * noise
        candidates = self.under(candidates, commands[:count])
        if self.climber is not None:
            climbing, own = proposed(self.climber, state, key=keys.climb)
            climbing, own = self._climbing_under(climbing, own, key=keys.climb)
            candidates = jnp.concatenate([candidates, climbing])
            evaluation = jnp.concatenate([evaluation, own])
        return Proposal(candidates, evaluation, context=commands)

    def learn(
        self, state: State, proposal: Proposal, outcome: Outcome, keys: Keys
    ) -> tuple[Learned, Metrics]:
        """Steps 3 to 5: store (θᵢ, oᵢ), fit V to the archive, and G to V."""
        config, learned = self.config, state.learned
        fresh = record_policies(self.commands, outcome.acting, outcome.candidates)
        archive = learned.archive.add(fresh)
        targets = OutcomeTargets(config.targets, archive, self.commands.achieved)
        outcomes = learned.outcomes.add(fresh).with_quantiles(archive)

        def draw(key: PRNGKeyArray) -> PolicyRecord:
            drawn = draw_records(
                archive,
                config.batch_size,
                recency=config.recency,
                evenly=config.evenly,
                condition=self.commands.condition,
                key=key,
            )
            # They stay the policies that they were, whatever is observed since.
            weights = self.unfold_normalisation(drawn.weights, outcome.observations)
            return eqx.tree_at(lambda drawn: drawn.weights, drawn, weights)

        value, value_optimiser, critic_loss = descend(
            evaluator_loss(self.commands, self.view, targets, draw),
            learned.value,
            self._value_optimiser,
            learned.value_optimiser,
            updates=config.critic_updates,
            key=keys.evaluator,
        )
        generator, generator_optimiser, loss = descend(
            generator_loss(
                config,
                self.commands,
                self.view,
                value,
                targets,
                draw,
                functools.partial(self._context_of, outcomes),
                self.task.observation_size,
            ),
            learned.generator,
            self._generator_optimiser,
            learned.generator_optimiser,
            updates=config.generator_updates,
            key=keys.generator,
        )
        metrics = self._metrics(state, proposal, fresh, outcome.evaluation)
        metrics |= {"critic_loss": critic_loss, "generator_loss": loss}
        climbing = learned.climbing
        if self.climber is not None:
            climbing, climbed = climb(
                self.climber, state, proposal, outcome, key=keys.climb
            )
            metrics |= climbed
        average = learned.average
        if average is not None:
            average = averaged(
                average, generator, part=config.average, iteration=state.iteration
            )
        learned = Learned(
            generator,
            average,
            generator_optimiser,
            value,
            value_optimiser,
            targets,
            outcomes,
            archive,
            climbing,
        )
        return learned, metrics

    def policy(self, state: State) -> AbstractPolicy:
        """Returns the policy for the best outcome so far.

        Under a condition that is of the whole size, or for the task itself.
        """
        best, condition = state.learned.outcomes.best, self.commands.condition
        if condition is not None:
            best = best.at[-1].set(condition.own)
        return self.write(self.model(state), best)

    def model(self, state: State) -> Model:
        """Returns what it takes to write policies."""
        learned = state.learned
        average = learned.average
        return Model(
            learned.generator if average is None else average,
            learned.value,
            learned.targets,
            learned.outcomes,
            state.observations,
        )

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
            Their weights, for standardised observations, and the numbers of their
            conditions.
        """

        def write(index, command):
            own_key = None if key is None else jr.fold_in(key, index)
            context = self._context_of(model.outcomes, command)
            policy: Any = model.generator(context, key=own_key)
            return self.view.to_vector(self.commands.place(policy, command))

        return jax.vmap(write)(jnp.arange(len(commands)), commands)

    def predict(
        self, model: Model, population: Float[Array, "policies weights"]
    ) -> Float[Array, "policies outcomes"]:
        """What the evaluator expects of policies, in the units of commands."""

        def of_one(weights):
            said = judge(self.commands, model.value, self.view.to_policy(weights))
            expected = model.targets.inverse(said)
            if self.commands.condition is None:
                return expected
            return jnp.append(expected, weights[-1])

        return jax.vmap(of_one)(population)

    def write(
        self,
        model: Model,
        command: Float[Array, " outcomes"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> AbstractPolicy:
        """A policy for a command, to act on observations as they are.

        Args:
            model: What was learned.
            command: What it is to do.
            key: As `generate` has it.

        Returns:
            The policy; of a size, one that has no other units.
        """
        weights = self.generate(model, command[None], key=key)
        policy = self.view.to_policy(
            self.fold_normalisation(weights, model.observations)[0]
        )
        condition = self.commands.condition
        if condition is None:
            return policy
        return condition.finished(policy, float(command[-1]))

    def under(
        self,
        rows: Float[Array, "policies row"],
        commands: Float[Array, "policies outcomes"],
    ) -> Float[Array, "policies acting"]:
        """Puts policies under the conditions of commands.

        Args:
            rows: Their weights, perhaps with the number of another condition, or with
                noise on all of that.
            commands: Whose last numbers are the conditions.

        Returns:
            Their weights, and the numbers; what is given where there is no condition.
        """
        condition = self.commands.condition
        if condition is None:
            return rows
        size = self.view.space.size - 1

        def of_one(row, number):
            policy: Any = self.view.to_policy(jnp.append(row[:size], number))
            return self.view.to_vector(condition.place(policy.policy, number))

        return jax.vmap(of_one)(rows, commands[:, -1])

    # What stays inside.

    def _to_watch(self, seen: OutcomeStatistics) -> Float[Array, "commands outcomes"]:
        """From the least to the best; the last one is what the run stands for."""
        commands = seen.between(self.config.eval_episodes)
        condition = self.commands.condition
        if condition is None:
            return commands
        return commands.at[:, -1].set(condition.apart(len(commands)))

    def _climbing_under(
        self,
        climbing: Float[Array, "climbing weights"],
        own: Float[Array, "one weights"],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, "climbing row"], Float[Array, "one row"]]:
        """The climber's candidates and policy, under conditions if there are any."""
        condition = self.commands.condition
        if condition is None:
            return climbing, own
        numbers = condition.in_pairs(len(climbing), key=jr.fold_in(key, _CLIMBING))
        alone = jnp.full((len(own), 1), condition.own)
        return self.under(climbing, numbers[:, None]), self.under(own, alone)

    def _metrics(
        self, state: State, proposal: Proposal, fresh: PolicyRecord, evaluation: Episode
    ) -> Metrics:
        count = self.config.num_envs - self.config.num_climbing
        expected = self.predict(self.model(state), proposal.candidates)
        watched = record_policies(self.commands, proposal.evaluation, evaluation)
        shown = self.config.eval_episodes
        given, done = proposal.context[count:, 0], watched.outcome[:shown, 0]
        sound = watched.valid[:shown]
        # The last one is for the best outcome so far.
        best: Episode = jax.tree.map(lambda leaf: leaf[shown - 1], evaluation)
        return {
            "return_policy": jnp.mean(best.total_reward, where=best.valid),
            "command_best": state.learned.outcomes.best[0],
            "command_error": jnp.mean(jnp.abs(given - done), where=sound),
            "command_correlation": correlation(given, done, sound),
            "critic_correlation": correlation(
                expected[:, 0], fresh.outcome[:, 0], fresh.valid
            ),
        }

    def _start_climbing(self, key: PRNGKeyArray) -> Climbed | None:
        return None if self.climber is None else self.climber.init(key=key).learned

    def _context_of(
        self, seen: OutcomeStatistics, command: Float[Array, " outcomes"]
    ) -> Float[Array, " outcomes"]:
        return context_of(self.config, self.commands, seen, command)

    def _draw_policy(self, key: PRNGKeyArray) -> AbstractPolicy:
        return make_policy(self.config.policy, self.task, self.config.hidden, key=key)

    @property
    def _value_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.config.critic_lr)

    @property
    def _generator_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.config.generator_lr)
