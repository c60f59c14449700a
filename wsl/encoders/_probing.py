from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from wsl._space import check_positive
from wsl.encoders._answers import AbstractFixedProbing, identity, shape_of


@final
class Probing(AbstractFixedProbing):
    """What the network answers to learned inputs (policy fingerprinting).

    The probing inputs are parameters of the encoder and learn with whatever reads its
    vector. Any callable that maps one input to one output can be encoded, whatever its
    architecture or size, and its hidden units may be permuted at will.

    Source: Harb et al. 2020 (policy evaluation networks); Faccio et al. 2022, where the
    features are the actions [π(s̃₁), ..., π(s̃_K)] in K learned states.

    Attributes:
        probes: The learned inputs, `(num_probes, *input_shape)`, before `map_probe`.
        output_size: How many numbers are read of one answer.
        map_probe: Applied to each probe before the network sees it.
        map_answer: Applied to each answer before it is read.
    """

    probes: Float[Array, "num_probes ..."]
    output_size: int = eqx.field(static=True)
    map_probe: Callable[[Array], Array] = eqx.field(static=True)
    map_answer: Callable[[Any], Array] = eqx.field(static=True)

    def __init__(
        self,
        input_shape: int | tuple[int, ...],
        output_size: int,
        num_probes: int,
        *,
        initializer: Callable[..., Array] | None = None,
        map_probe: Callable[[Array], Array] = identity,
        map_answer: Callable[[Any], Array] = identity,
        key: PRNGKeyArray,
    ):
        """Makes the encoder and draws its first probes.

        Args:
            input_shape: Shape of one input of the networks; an integer stands for a
                vector.
            output_size: How many numbers are read of one answer: the network's outputs,
                or what `map_answer` makes of them.
            num_probes: How many inputs to learn.
            initializer: Draws the first probes, as those of `jax.nn.initializers`.
                Uniform on [0, 1) unless given, as in the paper's released code.
            map_probe: Applied to each probe before the network sees it. Learned probes
                leave the range of the data; `jnp.tanh` keeps them from -1 to 1,
                `jax.nn.sigmoid` from 0 to 1.
            map_answer: Applied to each answer before it is read, such as
                `jax.nn.softmax` for classifiers, or a choice from an answer that is not
                one array.
            key: Source of randomness.

        Raises:
            ValueError: If a size is not positive.
        """
        check_positive(
            input_shape=input_shape, output_size=output_size, num_probes=num_probes
        )
        if initializer is None:
            initializer = jax.nn.initializers.uniform(scale=1.0)
        shape = (num_probes, *shape_of(input_shape))
        self.probes = initializer(key, shape, jnp.float32)
        self.output_size = output_size
        self.map_probe = map_probe
        self.map_answer = map_answer

    @property
    def num_features(self) -> int:
        """Length of the vector: probes times numbers read of each answer."""
        return self.probes.shape[0] * self.output_size
