"""What a critic is shown: answers at observed states, and standardised inputs."""

from collections.abc import Callable
from typing import Any, final, Literal, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from applications.envs import AbstractEnvironment, Continuous
from wsl.encoders import AbstractEncoder, Probing


InputScale: TypeAlias = Literal["raw", "noise", "archive"]
Tree = TypeVar("Tree")


class AbstractWrapper(AbstractEncoder):
    """An encoder that shows another one other numbers, or changes what that gives.

    Attributes:
        encoder: The other encoder.
    """

    encoder: eqx.AbstractVar[AbstractEncoder]

    @property
    def num_features(self) -> int:
        """As of the other encoder."""
        return self.encoder.num_features

    @property
    def num_reads(self) -> int:
        """As of the other encoder."""
        return self.encoder.num_reads


@final
class ObservedStates(AbstractWrapper):
    """What a policy answers in states that were observed.

    Unlike those of `wsl.encoders.Probing` the states are not learned: they are drawn
    anew from what policies visited whenever V is fitted.

    Attributes:
        probing: Has the states as its probes.
    """

    probing: Probing

    def __init__(self, probing: Probing):
        """Makes the encoder.

        Args:
            probing: Has the states as its probes.
        """
        self.probing = probing

    @property
    def encoder(self) -> Probing:
        """That of the answers."""
        return self.probing

    @property
    def is_invariant(self) -> bool:
        """Answers do not depend on the order of hidden units."""
        return True

    def __call__(self, network: PyTree) -> Float[Array, " features"]:
        """Encodes one policy.

        Args:
            network: The policy.

        Returns:
            Its answers, state after state.
        """
        return _constant(self.probing)(network)


@final
class ScaledWeights(AbstractWrapper):
    """An encoder of z = (θ̃ - θ) / σ in place of the weights θ̃.

    Attributes:
        encoder: Encodes policies whose weights are z.
        kind: Whether θ is the unperturbed policy and σ the scale of the perturbations,
            or both are of the archive, weight by weight.
        centre: θ, as a policy.
        scale: σ, as a policy.
    """

    encoder: AbstractEncoder
    kind: InputScale = eqx.field(static=True)
    centre: PyTree
    scale: PyTree

    def __init__(
        self, encoder: AbstractEncoder, kind: InputScale, centre: PyTree, scale: PyTree
    ):
        """Makes the encoder.

        Args:
            encoder: Encodes policies whose weights are z.
            kind: What centre and scale are of.
            centre: θ, as a policy.
            scale: σ, as a policy.
        """
        self.encoder = encoder
        self.kind = kind
        self.centre = centre
        self.scale = scale

    @property
    def is_invariant(self) -> bool:
        """No: θ has an order of hidden units, with which policies are compared."""
        return False

    def __call__(self, network: PyTree) -> Float[Array, " features"]:
        """Encodes one policy.

        Args:
            network: The policy.

        Returns:
            The encoder's vector.
        """
        centre, scale = _constant(self.centre), _constant(self.scale)
        arrays, rest = eqx.partition(network, eqx.is_array)
        z = jax.tree.map(
            lambda weight, mean, std: (weight - mean) / std,
            arrays,
            eqx.filter(centre, eqx.is_array),
            eqx.filter(scale, eqx.is_array),
        )
        return self.encoder(eqx.combine(z, rest))


@final
class ScaledFeatures(AbstractWrapper):
    """An encoder's vector, moved and scaled to about mean 0 and variance 1.

    Attributes:
        encoder: The encoder.
        kind: Whether the vector of the unperturbed policy is moved to 0 and the spread
            of fresh perturbations is 1, or mean and spread are of the archive.
        centre: What is taken off.
        scale: What the rest is divided by, one number for all.
    """

    encoder: AbstractEncoder
    kind: InputScale = eqx.field(static=True)
    centre: Float[Array, " features"]
    scale: Float[Array, ""]

    def __init__(
        self,
        encoder: AbstractEncoder,
        kind: InputScale,
        centre: Float[Array, " features"],
        scale: Float[Array, ""],
    ):
        """Makes the encoder.

        Args:
            encoder: The encoder.
            kind: What centre and scale are of.
            centre: What is taken off.
            scale: What the rest is divided by.
        """
        self.encoder = encoder
        self.kind = kind
        self.centre = centre
        self.scale = scale

    @property
    def is_invariant(self) -> bool:
        """As of the encoder."""
        return self.encoder.is_invariant

    def __call__(self, network: PyTree) -> Float[Array, " features"]:
        """Encodes one policy.

        Args:
            network: The policy.

        Returns:
            The scaled vector.
        """
        centre, scale = _constant((self.centre, self.scale))
        return (self.encoder(network) - centre) / scale


def scaled_weights(
    encoder: AbstractEncoder, kind: InputScale, policy: PyTree
) -> AbstractEncoder:
    """Shows z to an encoder of weights, or nothing else if the kind is raw."""
    if kind == "raw":
        return encoder
    arrays, rest = eqx.partition(policy, eqx.is_array)
    zeros = eqx.combine(jax.tree.map(jnp.zeros_like, arrays), rest)
    ones = eqx.combine(jax.tree.map(jnp.ones_like, arrays), rest)
    return ScaledWeights(encoder, kind, zeros, ones)


def scaled_features(encoder: AbstractEncoder, kind: InputScale) -> AbstractEncoder:
    """Scales what an encoder gives, or leaves it if the kind is raw."""
    if kind == "raw":
        return encoder
    return ScaledFeatures(encoder, kind, jnp.zeros(encoder.num_features), jnp.ones(()))


def bounded_answer(task: AbstractEnvironment) -> Callable[[Any], Array]:
    """Makes what is read of a policy's output bounded.

    Args:
        task: What the policy acts in.

    Returns:
        Probabilities of the actions where they are discrete; continuous ones stay, as
        they are inside a box.
    """
    return identity if isinstance(task.action_space, Continuous) else jax.nn.softmax


def observed_states(
    task: AbstractEnvironment, states: int, map_answer: Callable[[Any], Array]
) -> ObservedStates:
    """Makes an encoder of answers; `surrounded` puts the states in.

    Args:
        task: What policies act in.
        states: How many states.
        map_answer: From a policy's output to what is read of it.

    Returns:
        The encoder, with states of 0.
    """
    return ObservedStates(
        Probing(
            task.observation_size,
            task.action_space.output_size,
            states,
            initializer=jax.nn.initializers.zeros,
            map_answer=map_answer,
            key=jax.random.key(0),
        )
    )


def answer_spread(
    answers: AbstractEncoder, fresh: PyTree, policies: PyTree
) -> Float[Array, ""]:
    """Root mean square change of an answer by perturbations.

    Args:
        answers: From a policy to its answers.
        fresh: Perturbed policies, stacked leaf by leaf.
        policies: The policies that they perturb, in turn.

    Returns:
        The spread; 1 where nothing changes.
    """
    perturbed = eqx.filter_vmap(answers)(fresh)
    own = eqx.filter_vmap(answers)(policies)[: len(perturbed)]
    return root_mean_square(perturbed.reshape(-1, *own.shape) - own[None])


def root_mean_square(x: Float[Array, "*shape"]) -> Float[Array, ""]:
    """The root of the mean square; 1 where that is 0 or not finite."""
    mean = jnp.mean(jnp.square(x))
    there = (mean > 1e-20) & jnp.isfinite(mean)
    return jnp.where(there, jnp.sqrt(jnp.where(there, mean, 1.0)), 1.0)


def _constant(tree: Tree) -> Tree:
    """The same, without gradients to its arrays."""
    arrays, rest = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(jax.lax.stop_gradient, arrays), rest)


def identity(output: Any) -> Any:
    """Returns its argument: answers are read as they are."""
    return output
