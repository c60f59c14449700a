import math
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from wsl.generators._moments import standard_normal_sample


@final
class SharedMLP(eqx.Module):
    """An MLP of a place and a context, for all places at once.

    Where there is one place only, `place_size` is 0 and the first bias stands for it.

    At the start every hidden unit's second moment is 1 (He et al. 2015), and so is that
    of the outputs. The part of the first layer's variance that comes from the context
    is `context_share`, whatever the sizes; with plain He initialisation it would be
    that of the context's share of the inputs. The mean over places and contexts is
    taken off the outputs by the last bias, so that places do not all start with the
    same pattern.

    Attributes:
        first_context: `(width, context_size)`.
        first_place: `(width, place_size)`.
        weights: Those of the other layers, each `(outputs, inputs)`.
        biases: One a layer.
    """

    first_context: Float[Array, "width context"]
    first_place: Float[Array, "width place"]
    weights: tuple[Float[Array, "_out _in"], ...]
    biases: tuple[Float[Array, " _out"], ...]

    def __init__(
        self,
        context_size: int,
        place_size: int,
        out_size: int,
        *,
        width: int,
        depth: int,
        context_share: float,
        key: PRNGKeyArray,
    ):
        """Draws the weights.

        Args:
            context_size: Length of a context.
            place_size: Length of a place's embedding.
            out_size: How many numbers a place gets.
            width: Units of a hidden layer.
            depth: How many hidden layers, at least one.
            context_share: See above.
            key: Source of randomness.
        """
        # Times 2, as a ReLU halves the second moment.
        for_context, for_place = 2 * context_share, 2 * (1 - context_share)
        sizes = [width] * depth + [out_size]
        shapes = [(width, context_size), (width, place_size)]
        shapes += [(n, width) for n in sizes[1:]] + [(width,)]
        # One draw for all, as each compiles.
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        numbers = jnp.split(jr.normal(key, (int(ends[-1]),)), ends[:-1])
        context, place, *others, bias = [
            part.reshape(shape) for part, shape in zip(numbers, shapes, strict=True)
        ]
        self.first_context = math.sqrt(for_context / context_size) * context
        self.first_place = math.sqrt(for_place / max(place_size, 1)) * place
        self.weights = tuple(
            math.sqrt((2 if i < depth - 1 else 1) / width) * weight
            for i, weight in enumerate(others)
        )
        if not place_size:
            self.biases = (
                math.sqrt(for_place) * bias,
                *(jnp.zeros(n) for n in sizes[1:]),
            )
            return
        self.biases = tuple(jnp.zeros(n) for n in sizes)
        sample = standard_normal_sample(4096, context_size + place_size)
        contexts, places = sample[:, :context_size], sample[:, context_size:]
        mean = jax.vmap(self.features)(places[:, None], contexts).mean((0, 1))
        self.biases = (*self.biases[:-1], -self.weights[-1] @ mean)

    def features(
        self, places: Float[Array, "places place"], context: Float[Array, " context"]
    ) -> Float[Array, "places width"]:
        """The last hidden layer.

        Args:
            places: An embedding a place.
            context: The context.

        Returns:
            Features of every place.
        """
        x = places @ self.first_place.T
        x = jax.nn.relu(x + (self.first_context @ context + self.biases[0])[None])
        for weight, bias in zip(self.weights[:-1], self.biases[1:-1], strict=True):
            x = jax.nn.relu(x @ weight.T + bias[None])
        return x

    def __call__(
        self, places: Float[Array, "places place"], context: Float[Array, " context"]
    ) -> Float[Array, "places out"]:
        """Answers for every place.

        Args:
            places: An embedding a place.
            context: The context.

        Returns:
            As many numbers for each place as there are outputs.
        """
        features = self.features(places, context)
        return features @ self.weights[-1].T + self.biases[-1][None]
