import functools
import math
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from wsl._space import check_positive
from wsl.encoders._answers import AbstractFixedProbing, identity, shape_of
from wsl.nn._draw import constant, split


@final
class GeneratedProbing(AbstractFixedProbing):
    """What the network answers to inputs from a deep linear generator.

    Probe k is A_D ... A_1 z_k + b: a learned code z_k for each probe, and matrices that
    all probes share, with no activation between them. Depth adds nothing to what the
    probes can be, any points of a flat of at most `code_size` dimensions. It changes
    how gradient descent gets there: along few directions that all probes have in
    common. The paper finds that they overfit less than separate probes do.

    Matrices start (semi-)orthogonal, scaled so that each keeps the mean square of what
    goes through it whatever the depth (Saxe et al. 2014); the first probes have the
    variance of the codes, 1 unless `initializer` says otherwise, and no offset b.

    Source: Kahana et al. 2024 (ProbeGen), whose generator of images is made of
    convolutions, not of dense matrices.

    Attributes:
        codes: One latent code a probe.
        matrices: A_1 to A_D.
        offset: b, `input_shape`.
        output_size: How many numbers are read of one answer.
        map_probe: Applied to each probe before the network sees it.
        map_answer: Applied to each answer before it is read.
    """

    codes: Float[Array, "num_probes code_size"]
    matrices: tuple[Float[Array, "_out _in"], ...]
    offset: Float[Array, "..."]
    output_size: int = eqx.field(static=True)
    map_probe: Callable[[Array], Array] = eqx.field(static=True)
    map_answer: Callable[[Any], Array] = eqx.field(static=True)

    def __init__(
        self,
        input_shape: int | tuple[int, ...],
        output_size: int,
        num_probes: int,
        *,
        code_size: int = 32,
        width: int = 64,
        depth: int = 3,
        initializer: Callable[..., Array] | None = None,
        map_probe: Callable[[Array], Array] = identity,
        map_answer: Callable[[Any], Array] = identity,
        key: PRNGKeyArray,
    ):
        """Makes the encoder and draws its codes and matrices.

        Args:
            input_shape: Shape of one input of the networks; an integer stands for a
                vector.
            output_size: How many numbers are read of one answer: the network's outputs,
                or what `map_answer` makes of them.
            num_probes: How many inputs to generate.
            code_size: Length of a code.
            width: Length of what goes from one matrix to the next.
            depth: How many matrices.
            initializer: Draws the first codes, as those of `jax.nn.initializers`; the
                first probes have their variance. Standard normal unless given.
            map_probe: Applied to each probe before the network sees it, such as
                `jnp.tanh` to keep probes from -1 to 1.
            map_answer: Applied to each answer before it is read, such as
                `jax.nn.softmax` for classifiers.
            key: Source of randomness.

        Raises:
            ValueError: If a size is not positive.
        """
        check_positive(
            input_shape=input_shape,
            output_size=output_size,
            num_probes=num_probes,
            code_size=code_size,
            width=width,
            depth=depth,
        )
        if initializer is None:
            initializer = jax.nn.initializers.normal(1.0)
        codes_key, matrices_key = split(key, 2)
        shape = shape_of(input_shape)
        sizes = (code_size, *(depth - 1) * (width,), math.prod(shape))
        self.codes = initializer(codes_key, (num_probes, code_size), jnp.float32)
        self.matrices = tuple(
            _isometry(sizes[i + 1], sizes[i], key=matrix_key)
            for i, matrix_key in enumerate(split(matrices_key, depth))
        )
        self.offset = constant(0.0, *shape, dtype=jnp.float32)
        self.output_size = output_size
        self.map_probe = map_probe
        self.map_answer = map_answer

    @property
    def probes(self) -> Float[Array, "num_probes ..."]:
        """The generated inputs, `(num_probes, *input_shape)`, before `map_probe`."""
        flat = self.codes
        for matrix in self.matrices:
            flat = flat @ matrix.T
        return flat.reshape(-1, *self.offset.shape) + self.offset[None]

    @property
    def num_features(self) -> int:
        """Length of the vector: probes times numbers read of each answer."""
        return self.codes.shape[0] * self.output_size


@functools.partial(jax.jit, static_argnums=(0, 1))
def _isometry(
    out_size: int, in_size: int, *, key: PRNGKeyArray
) -> Float[Array, "out_size in_size"]:
    """A random matrix that keeps the mean square of a vector, on average over draws."""
    scale = math.sqrt(max(1.0, out_size / in_size))
    return jax.nn.initializers.orthogonal(scale)(key, (out_size, in_size), jnp.float32)
