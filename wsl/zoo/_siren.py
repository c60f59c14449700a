import math
from typing import final

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from wsl.zoo._sine import sine


@final
class Siren(eqx.Module):
    """A network of sines: coordinates in, the signal's values there out.

    Hidden layers compute `sin(ω (W x + b))`, each with a fixed frequency ω; the last
    layer is linear.

    Initialised as in the paper: weights of the first layer are uniform on [-1/n, 1/n]
    and those of all later ones on [-c, c] with c = sqrt(6/n) / ω, where n is the number
    of the layer's inputs and ω the hidden frequency. The paper leaves biases open; they
    are uniform on [-1/sqrt(n), 1/sqrt(n)], as in its released code.

    Three symmetries leave the function alone: a layer's neurons may change places; a
    neuron's incoming weights, bias and outgoing weights may change sign together; and
    a bias may move by a multiple m of π/ω, with outgoing weights of the other sign if m
    is odd.

    Source: Sitzmann et al. 2020 (SIREN), section 3.2.

    Attributes:
        layers: The linear maps, first to last.
        frequencies: ω of each hidden layer: one less than there are layers.
    """

    layers: tuple[eqx.nn.Linear, ...]
    frequencies: tuple[float, ...] = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        width_size: int,
        depth: int,
        *,
        first_frequency: float = 30.0,
        hidden_frequency: float = 30.0,
        key: PRNGKeyArray,
    ):
        """Makes the network.

        Args:
            in_size: How many coordinates a point has.
            out_size: How many values the signal has.
            width_size: Neurons of each hidden layer.
            depth: How many hidden layers.
            first_frequency: Frequency of the first hidden layer. 30 in the paper;
                smoother signals are fitted by smaller ones.
            hidden_frequency: Frequency of the other hidden layers.
            key: Source of randomness.

        Raises:
            ValueError: If a size or a frequency is not positive.
        """
        numbers = (in_size, out_size, width_size, depth)
        if min(numbers) < 1 or min(first_frequency, hidden_frequency) <= 0:
            raise ValueError(
                "Sizes and frequencies must be positive; got "
                f"in_size={in_size}, out_size={out_size}, width_size={width_size}, "
                f"depth={depth}, first_frequency={first_frequency}, "
                f"hidden_frequency={hidden_frequency}."
            )
        sizes = (in_size, *(width_size,) * depth, out_size)
        # All numbers by one draw: XLA compiles every draw by itself.
        counts = [(n + 1) * m for n, m in zip(sizes[:-1], sizes[1:], strict=True)]
        draws = jnp.split(
            jr.uniform(key, (sum(counts),), minval=-1, maxval=1),
            np.cumsum(counts)[:-1].tolist(),
        )
        layers = []
        for i, (fan_in, draw) in enumerate(zip(sizes[:-1], draws, strict=True)):
            linear = eqx.nn.Linear(fan_in, sizes[i + 1], key=key)
            limit = 1 / fan_in if i == 0 else math.sqrt(6 / fan_in) / hidden_frequency
            weight = limit * draw[: linear.weight.size].reshape(linear.weight.shape)
            bias = draw[linear.weight.size :] / math.sqrt(fan_in)
            layers.append(
                eqx.tree_at(lambda x: (x.weight, x.bias), linear, (weight, bias))
            )
        self.layers = tuple(layers)
        self.frequencies = (first_frequency, *(hidden_frequency,) * (depth - 1))

    def __call__(self, x: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """The signal at one point.

        Args:
            x: Its coordinates.

        Returns:
            The values there.
        """
        *hidden, last = self.layers
        for linear, frequency in zip(hidden, self.frequencies, strict=True):
            x = sine(frequency * linear(x))
        return last(x)

    def shuffle(self, *, key: PRNGKeyArray) -> "Siren":
        """The same function, with hidden neurons in another order and of other signs.

        Args:
            key: Source of randomness.

        Returns:
            The network after a random permutation of each hidden layer's neurons and
            random changes of sign: sines are odd, so a neuron whose incoming weights
            and bias change sign leaves the function alone if its outgoing weights do.
        """
        layers = list(self.layers)
        for i, layer_key in enumerate(jr.split(key, len(layers) - 1)):
            pkey, skey = jr.split(layer_key)
            this, after = layers[i], layers[i + 1]
            assert this.bias is not None
            order = jr.permutation(pkey, this.weight.shape[0])
            signs = jr.rademacher(skey, order.shape, this.weight.dtype)
            layers[i] = eqx.tree_at(
                lambda linear: (linear.weight, linear.bias),
                this,
                (this.weight[order] * signs[:, None], this.bias[order] * signs),
            )
            layers[i + 1] = eqx.tree_at(
                lambda linear: linear.weight,
                after,
                after.weight[:, order] * signs[None, :],
            )
        return eqx.tree_at(lambda siren: siren.layers, self, tuple(layers))
