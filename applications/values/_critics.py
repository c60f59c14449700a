"""Critics: how V is fitted to an archive, by gradient steps or in closed form."""

import abc
from collections.abc import Callable
from typing import Any, final, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from applications.stores import Archive, Record
from applications.values._fit import (
    fit,
    labels,
    MakePolicy,
    TargetKind,
    Targets,
    targets_of,
    Value,
)
from applications.values._inputs import root_mean_square
from applications.values._kernel import fit_kernel, KernelValue
from applications.values._surroundings import surrounded, Surroundings
from applications.values._value_function import value_function
from wsl.encoders import AbstractEncoder, EncodedMLP


CriticKind: TypeAlias = Literal["perceptron", "kernel"]
CriticStart: TypeAlias = Literal["warm", "anew"]
DrawEncoder: TypeAlias = Callable[..., AbstractEncoder]

# Policies that an encoder reads at once.
_AT_ONCE = 128


@final
class Fitted(eqx.Module):
    """What a critic keeps from one fit to the next.

    Attributes:
        value: V(θ) or V(s, θ).
        optimiser: The state of its optimiser; empty where there is none.
    """

    value: Value
    optimiser: PyTree


class AbstractCritic(eqx.Module):
    """Fits a value function to policies and their returns."""

    @abc.abstractmethod
    def init(self, *, key: PRNGKeyArray) -> Fitted:
        """Draws the value function before the first fit.

        Args:
            key: Source of randomness.

        Returns:
            The value function and what belongs to it.
        """

    @abc.abstractmethod
    def fit(
        self,
        fitted: Fitted,
        archive: Archive[Record],
        make_policy: MakePolicy,
        surroundings: Surroundings,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Fitted, Targets, Float[Array, ""]]:
        """Fits V.

        Args:
            fitted: From the fit before.
            archive: Policies and their returns.
            make_policy: From the weights of an entry to the policy that V is shown.
            surroundings: What inputs are standardised by.
            key: Source of randomness.

        Returns:
            The value function; the targets, whose inverse takes values to returns; and
            the error, a mean square in units of the targets.
        """


@final
class PerceptronCritic(AbstractCritic):
    """An encoder and a perceptron, fitted by Adam.

    Attributes:
        draw_encoder: From a keyword `key` to an encoder.
        state_size: Length of an observation for V(s, θ); 0 for V(θ).
        width: Width of the perceptron's hidden layers.
        depth: How many there are.
        learning_rate: Adam's rate.
        updates: Gradient steps of a fit.
        batch_size: Policies in a step.
        targets: What V learns.
        start: Whether a fit goes on from the one before or from a new draw.
        ensemble: How many value functions there are, differently drawn, of whose values
            the mean is taken.
    """

    draw_encoder: DrawEncoder = eqx.field(static=True)
    state_size: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    learning_rate: float = eqx.field(static=True)
    updates: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)
    targets: TargetKind = eqx.field(static=True)
    start: CriticStart = eqx.field(static=True)
    ensemble: int = eqx.field(static=True)

    def init(self, *, key: PRNGKeyArray) -> Fitted:
        """As of `AbstractCritic`."""
        if self.ensemble == 1:
            return self._draw(key)
        drawn = eqx.filter_vmap(self._draw)(jr.split(key, self.ensemble))
        return Fitted(Ensemble(drawn.value), drawn.optimiser)

    def fit(
        self,
        fitted: Fitted,
        archive: Archive[Record],
        make_policy: MakePolicy,
        surroundings: Surroundings,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Fitted, Targets, Float[Array, ""]]:
        """As of `AbstractCritic`."""
        if self.start == "anew":
            draw_key, key = jr.split(key)
            fitted = self.init(key=draw_key)
        if self.ensemble == 1:
            return self._fit_one(fitted, archive, make_policy, surroundings, key)
        value: Any = fitted.value
        each = Fitted(value.members, fitted.optimiser)
        each, targets, losses = eqx.filter_vmap(
            lambda one, key: self._fit_one(
                one, archive, make_policy, surroundings, key
            ),
            out_axes=(eqx.if_array(0), None, 0),
        )(each, jr.split(key, self.ensemble))
        return Fitted(Ensemble(each.value), each.optimiser), targets, jnp.mean(losses)

    def _draw(self, key: PRNGKeyArray) -> Fitted:
        encoder_key, head_key = jr.split(key)
        value = value_function(
            self.draw_encoder(key=encoder_key),
            self.width,
            self.depth,
            state_size=self.state_size,
            key=head_key,
        )
        return Fitted(value, self._adam.init(eqx.filter(value, eqx.is_inexact_array)))

    def _fit_one(
        self,
        fitted: Fitted,
        archive: Archive[Record],
        make_policy: MakePolicy,
        surroundings: Surroundings,
        key: PRNGKeyArray,
    ) -> tuple[Fitted, Targets, Float[Array, ""]]:
        value: Any = fitted.value
        encoder = surrounded(value.encoder, surroundings)
        value, optimiser, targets, loss = fit(
            eqx.tree_at(lambda value: value.encoder, value, encoder),
            self._adam,
            fitted.optimiser,
            archive,
            make_policy,
            kind=self.targets,
            batch_size=self.batch_size,
            updates=self.updates,
            key=key,
        )
        return Fitted(value, optimiser), targets, loss

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)


@final
class Ensemble(eqx.Module):
    """Value functions of one form; their mean is V, their spread says how sure it is.

    Attributes:
        members: The value functions, stacked leaf by leaf.
    """

    members: EncodedMLP

    @property
    def condition_sizes(self) -> tuple[int, ...]:
        """As of each."""
        return self.members.condition_sizes

    def __call__(
        self, policy: PyTree, *conditions: Float[Array, " _size"]
    ) -> Float[Array, ""]:
        """The mean of what they say."""
        return jnp.mean(self._all(policy, *conditions))

    def deviation(
        self, policy: PyTree, *conditions: Float[Array, " _size"]
    ) -> Float[Array, ""]:
        """The standard deviation of what they say."""
        # The root has no slope at 0.
        return jnp.sqrt(jnp.var(self._all(policy, *conditions)) + 1e-6)

    def _all(self, policy: PyTree, *conditions: Array) -> Float[Array, " members"]:
        say = eqx.filter_vmap(lambda member: member(policy, *conditions))
        return say(self.members)


@final
class KernelCritic(AbstractCritic):
    """A Gaussian process on what an encoder makes of policies; nothing is iterated.

    An encoder with parameters stays as it was drawn.

    Attributes:
        draw_encoder: From a keyword `key` to an encoder.
        points: How many policies of the archive it reads, at most.
        targets: What V learns.
        scale: As of `fit_kernel`.
        noise: As of `fit_kernel`.
    """

    draw_encoder: DrawEncoder = eqx.field(static=True)
    points: int = eqx.field(static=True)
    targets: TargetKind = eqx.field(static=True)
    scale: float | None = eqx.field(static=True)
    noise: float | None = eqx.field(static=True)

    def init(self, *, key: PRNGKeyArray) -> Fitted:
        """As of `AbstractCritic`."""
        return Fitted(KernelValue.empty(self.draw_encoder(key=key), self.points), ())

    def fit(
        self,
        fitted: Fitted,
        archive: Archive[Record],
        make_policy: MakePolicy,
        surroundings: Surroundings,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Fitted, Targets, Float[Array, ""]]:
        """As of `AbstractCritic`."""
        value: Any = fitted.value
        encoder = surrounded(value.encoder, surroundings)
        targets = targets_of(self.targets, value, archive)
        records, there = archive.entries, archive.filled
        if self.points < archive.capacity:
            # There may be fewer: those that are drawn again do not count again.
            records = archive.sample(self.points, key=key)
            there = jnp.arange(self.points) < archive.added
        returns, valid = labels(value, records)
        # Of wide policies all together would need much memory.
        read = lambda weights: encoder(make_policy(weights))
        points = jax.lax.map(read, records.weights, batch_size=_AT_ONCE)
        around = encoder(surroundings.centre)
        fresh = eqx.filter_vmap(encoder)(surroundings.fresh)
        size = jnp.sqrt(jnp.asarray(float(around.size)))
        value, error = fit_kernel(
            encoder,
            points,
            targets(returns[:, 0]),
            there & valid[:, 0],
            root_mean_square(fresh - around[None]) * size,
            scale=self.scale,
            noise=self.noise,
        )
        return Fitted(value, fitted.optimiser), targets, error
