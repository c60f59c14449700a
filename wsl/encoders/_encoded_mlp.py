from collections.abc import Callable, Sequence
from typing import final, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl.encoders._encoder import AbstractEncoder
from wsl.nn._draw import mlp


@final
class EncodedMLP(eqx.Module):
    """An encoder of networks with a perceptron on top, which may take more vectors.

    The perceptron reads the encoder's vector concatenated with the conditions: V(θ) has
    no conditions, V(s, θ) a state, Q(s, a, θ) a state and an action. Gradients flow to
    the network, the conditions, and the parameters of encoder and perceptron.

    Source: the parameter-based value functions of Faccio et al. (2021), there over all
    weights of a policy.

    Attributes:
        encoder: From a network to a vector.
        head: From that vector and the conditions to the output.
        condition_sizes: Length of each condition.
    """

    encoder: AbstractEncoder
    head: eqx.nn.MLP
    condition_sizes: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        encoder: AbstractEncoder,
        condition_sizes: Sequence[int],
        out_size: int | Literal["scalar"],
        width: int,
        depth: int,
        *,
        activation: Callable[[Array], Array] = jax.nn.relu,
        key: PRNGKeyArray,
    ):
        """Draws the perceptron.

        Args:
            encoder: From a network to a vector.
            condition_sizes: Length of each condition, in the order of the call;
                `(state_size, action_size)` for Q(s, a, θ), none for V(θ).
            out_size: Length of the output, or "scalar" for one number of shape `()`.
            width: Width of the perceptron's hidden layers.
            depth: How many there are.
            activation: Their activation.
            key: Source of randomness, all for the perceptron.

        Raises:
            ValueError: If a condition's size is not positive.
        """
        if min(condition_sizes, default=1) < 1:
            raise ValueError(
                "Sizes of conditions must be positive; got "
                f"{tuple(condition_sizes)}. Leave out a condition that is not there."
            )
        self.encoder = encoder
        self.head = mlp(
            encoder.num_features + sum(condition_sizes),
            out_size,
            width,
            depth,
            activation,
            key=key,
        )
        self.condition_sizes = tuple(condition_sizes)

    def __call__(
        self, network: PyTree, *conditions: Float[Array, " _size"]
    ) -> Float[Array, "*out"]:
        """The function's value.

        Args:
            network: A network that the encoder can encode.
            *conditions: One vector for each of `condition_sizes`.

        Returns:
            The output, of `out_size` numbers.

        Raises:
            ValueError: If there are other conditions than `condition_sizes` says.
        """
        shapes = tuple(condition.shape for condition in conditions)
        expected = tuple((size,) for size in self.condition_sizes)
        if shapes != expected:
            raise ValueError(
                f"Expected conditions of shapes {expected} after the network, got "
                f"{shapes}. Batches go through `jax.vmap`."
            )
        return self.head(jnp.concatenate([self.encoder(network), *conditions]))
