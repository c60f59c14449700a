"""From what a generator's body answers to the weights of its target."""

import abc
import math
from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import is_weight, WeightSpace
from wsl.generators._dependence import depends_on_key
from wsl.generators._generator import AbstractGenerator, MakeTarget, Network
from wsl.generators._moments import (
    initial_moments,
    Moments,
    pooled_moments,
    standard_normal_sample,
)
from wsl.nn._draw import constant
from wsl.nn._dtypes import wide


@final
class Target(eqx.Module):
    """The network to generate, as its own initialiser makes it.

    Attributes:
        space: The leaves to generate: all floating-point arrays of one entry or more.
        rest: The network without them, taken from one draw.
        constants: For each leaf its value if the initialiser gives the same one for
            all keys, and else None.
    """

    space: WeightSpace = eqx.field(static=True)
    rest: PyTree
    constants: tuple[Float[Array, "..."] | None, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many entries each leaf has."""
        return tuple(math.prod(leaf.shape) for leaf in self.space.leaves)


def measure_target(
    make_target: MakeTarget, *, key: PRNGKeyArray
) -> tuple[Target, Moments]:
    """Draws from an initialiser, and measures it.

    Args:
        make_target: The initialiser.
        key: For the draw that what is not generated is taken from.

    Returns:
        The target and the moments of its leaves, those of constants 0.

    Raises:
        ValueError: If there is nothing to generate.
    """
    _check_initialiser(make_target)
    arrays, depends = depends_on_key(eqx.Partial(_draw, make_target))
    shapes = eqx.filter(arrays, is_generated)
    space = WeightSpace.from_spec(shapes)
    if not space.leaves:
        raise ValueError(
            "`make_target(key)` returns no floating-point arrays, so that there is "
            "nothing to generate."
        )
    chosen = jax.tree.map(
        lambda leaf, flag: flag if is_generated(leaf) else None, arrays, depends
    )
    varies = tuple(jax.tree.leaves(chosen))
    target = Target(space, *_draw_fixed(make_target, varies, key))
    # No closure, so that what it compiles to is found again.
    draw = eqx.Partial(_draw_some, make_target, varies)
    return target, initial_moments(draw, target.sizes)


def check_context(context: Any, size: int) -> None:
    """Raises a ValueError if a context is not a vector of a size."""
    if not isinstance(context, jax.Array | np.ndarray):
        raise ValueError(
            f"The context must be an array of shape ({size},); got "
            f"{type(context).__name__}: {context!r}. Write `jnp.array([...])`."
        )
    if context.shape != (size,):
        raise ValueError(
            f"The context has shape {context.shape}; this generator takes ({size},). A "
            "batch goes through `eqx.filter_vmap`."
        )


class AbstractBody(eqx.Module):
    """Answers to a context with numbers for each leaf, all in one scale."""

    @abc.abstractmethod
    def __call__(
        self, context: Float[Array, " context"], leaves: Sequence[int]
    ) -> list[Array]:
        """Entries of some leaves.

        Args:
            context: The context, standardised.
            leaves: Positions of the leaves.

        Returns:
            For each of them a vector as long as the leaf has entries.
        """


@final
class Writer(eqx.Module):
    """Gives a body's raw outputs the statistics of the target's own initialiser.

    Entry `j` of leaf `l` is `gain_l * raw_lj + offset_l`, and leaves that the
    initialiser gives the same value for all keys have that value added. The body sees
    contexts that are standardised.

    Attributes:
        target: What is written.
        gains: One for each leaf.
        offsets: One for each leaf.
        context_mean: Taken off a context, not to be trained.
        context_deviation: Divides it, not to be trained.
    """

    target: Target
    gains: Float[Array, " leaves"]
    offsets: Float[Array, " leaves"]
    context_mean: Float[Array, " context"]
    context_deviation: Float[Array, " context"]

    def __init__(
        self,
        target: Target,
        initial: Moments,
        body: AbstractBody,
        context_size: int,
        contexts: Float[Array, "_num _context"] | None,
    ):
        """Calibrates on a sample of contexts.

        Args:
            target: What is written.
            initial: Moments of its initialiser.
            body: What answers to contexts.
            context_size: Length of a context.
            contexts: The sample; standard normal if None.

        Raises:
            ValueError: If the contexts are of another size.
        """
        self.target = target
        self.context_mean = constant(0.0, context_size)
        self.context_deviation = constant(1.0, context_size)
        if contexts is None:
            # Enough for 10 % at more than four standard deviations: the variance of
            # `n` normal numbers scatters by sqrt(2 / n).
            many = standard_normal_sample(4096, context_size)
            rounds = [(1024, standard_normal_sample(512, context_size)), (1, many)]
        else:
            if contexts.shape[1] != context_size or contexts.shape[0] < 2:
                raise ValueError(
                    f"`contexts` has shape {contexts.shape}; expected two contexts or "
                    f"more, of {context_size} numbers each: (num, {context_size})."
                )
            contexts = jax.lax.stop_gradient(contexts.astype(self.context_mean.dtype))
            self.context_mean = contexts.mean(0)
            deviation = contexts.std(0)
            # Rounding gives numbers that are all the same a deviation above 0.
            varies = deviation > 1e-6 * jnp.abs(self.context_mean)
            self.context_deviation = jnp.where(varies, deviation, 1.0)
            rounds = [(1, jax.vmap(self.standardize)(contexts))]
        raw = pooled_moments(body, target.sizes, rounds)
        self.gains, self.offsets = _map_moments(raw, initial)

    def standardize(self, context: Float[Array, " context"]) -> Float[Array, " _n"]:
        """A context as the body sees it.

        Args:
            context: The context.

        Returns:
            Of mean 0 and variance 1 over the contexts of the calibration.

        Raises:
            ValueError: If the context is of another size.
        """
        check_context(context, self.context_mean.shape[0])
        mean = jax.lax.stop_gradient(self.context_mean)
        deviation = jax.lax.stop_gradient(self.context_deviation)
        return (context.astype(mean.dtype) - mean) / deviation

    def __call__(self, body: AbstractBody, context: Float[Array, " context"]) -> Any:
        """Writes a network.

        Args:
            body: What the writer was calibrated for.
            context: The context.

        Returns:
            The network.

        Raises:
            ValueError: If the context is of another size.
        """
        space = self.target.space
        raw = body(self.standardize(context), range(len(space.leaves)))
        arrays = []
        for i, (leaf, vector, fixed) in enumerate(
            zip(space.leaves, raw, self.target.constants, strict=True)
        ):
            array = self.gains[i] * vector + self.offsets[i]
            array = array.reshape(leaf.shape)
            if fixed is not None:
                base = wide(jax.lax.stop_gradient(fixed))
                array = array.astype(base.dtype) + base
            arrays.append(array.astype(leaf.dtype))
        weights = jax.tree.unflatten(space.treedef, arrays)
        return eqx.combine(weights, self.target.rest)


class AbstractWritingGenerator(AbstractGenerator[Network]):
    """A body that answers to a context, and a writer that makes weights of it.

    Attributes:
        body: Writes all leaves in one scale.
        writer: Standardises the context before, and has the affine map of each leaf.
    """

    body: eqx.AbstractVar[AbstractBody]
    writer: eqx.AbstractVar[Writer]

    def __call__(
        self, context: Float[Array, " context"], *, key: PRNGKeyArray | None = None
    ) -> Network:
        """Writes one network.

        Args:
            context: What the network is to be made for.
            key: Not used.

        Returns:
            The network.

        Raises:
            ValueError: If the context is of another size.
        """
        return self.writer(self.body, context)


@jax.jit
def _map_moments(raw: Moments, wanted: Moments) -> tuple[Array, Array]:
    """Gains and offsets that take numbers of some moments to others."""
    # A leaf with one entry and contexts that are all the same does not vary.
    deviation = jnp.sqrt(jnp.where(raw.variance > 0, raw.variance, 1.0))
    gains = jnp.sqrt(wanted.variance) / deviation
    return gains, wanted.mean - gains * raw.mean


def _check_initialiser(make_target: Any) -> None:
    """Raises a ValueError if there is a network in the place of its initialiser."""
    is_partial = isinstance(make_target, eqx.Partial)
    arrays = [leaf for leaf in jax.tree.leaves(make_target) if is_weight(leaf)]
    if callable(make_target) and (is_partial or not arrays):
        return
    raise ValueError(
        "`make_target` is the target's initialiser, a function from a key to a "
        f"network; got {type(make_target).__name__}. For instance "
        "`lambda key: eqx.nn.MLP(2, 1, 8, 1, key=key)`."
    )


def _draw(make_target: MakeTarget, key: PRNGKeyArray) -> PyTree:
    return jax.tree.map(
        lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, make_target(key)
    )


@eqx.filter_jit
def _draw_fixed(
    make_target: MakeTarget, varies: Sequence[bool], key: PRNGKeyArray
) -> tuple[PyTree, tuple[Array | None, ...]]:
    """What is not generated, and the leaves that do not vary."""
    weights, rest = eqx.partition(_draw(make_target, key), is_generated)
    constants = [
        None if depends else leaf
        for leaf, depends in zip(jax.tree.leaves(weights), varies, strict=True)
    ]
    return rest, tuple(constants)


def _draw_some(
    make_target: MakeTarget,
    varies: Sequence[bool],
    key: PRNGKeyArray,
    chosen: Sequence[int],
) -> list[Array]:
    """Some of the leaves of one draw, with zeros for those that do not vary."""
    leaves = jax.tree.leaves(eqx.filter(_draw(make_target, key), is_generated))
    return [leaves[i] if varies[i] else jnp.zeros(leaves[i].shape) for i in chosen]


def is_generated(leaf: Any) -> bool:
    """Whether a generator writes a leaf: a floating-point array with entries."""
    return is_weight(leaf) and leaf.size > 0
