import math
from collections.abc import Callable
from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import check_positive
from wsl.encoders._answers import answers_to, identity, shape_of
from wsl.encoders._encoder import AbstractEncoder
from wsl.nn._draw import gru_cell, linear, split


@final
class InteractiveProbing(AbstractEncoder):
    """What the network answers to inputs that depend on its answers so far.

    In round r, with a recurrent state h_r that starts at 0:

    1. the probes are x_r + W h_r, with learned x_r and W;
    2. the network answers them, y_r;
    3. h_{r+1} = GRU(y_r, h_r).

    So the first probes are learned inputs, and later ones are written for the network
    at hand; with W = 0 this is `Probing`. The vector holds the answers of all rounds,
    and after them the last state: answers lose nothing and give the network a direct
    gradient, the state gives the recurrent cell one from the start, not only through
    the probes that it writes.

    Source: interactive probing (Herrmann et al. 2024, "Learning Useful Representations
    of Recurrent Neural Network Weight Matrices"), there of recurrent networks.

    Attributes:
        probes: x_r, `(num_rounds, probes_per_round, *input_shape)`.
        cell: From a round's answers and a state to the next state.
        write: W.
        output_size: How many numbers are read of one answer.
        map_probe: Applied to each probe before the network sees it.
        map_answer: Applied to each answer before it is read.
    """

    probes: Float[Array, "num_rounds probes_per_round ..."]
    cell: eqx.nn.GRUCell
    write: eqx.nn.Linear
    output_size: int = eqx.field(static=True)
    map_probe: Callable[[Array], Array] = eqx.field(static=True)
    map_answer: Callable[[Any], Array] = eqx.field(static=True)
    is_invariant: ClassVar[bool] = True

    def __init__(
        self,
        input_shape: int | tuple[int, ...],
        output_size: int,
        num_rounds: int,
        probes_per_round: int,
        *,
        state_size: int = 32,
        initializer: Callable[..., Array] | None = None,
        map_probe: Callable[[Array], Array] = identity,
        map_answer: Callable[[Any], Array] = identity,
        key: PRNGKeyArray,
    ):
        """Makes the encoder and draws its parameters.

        Args:
            input_shape: Shape of one input of the networks; an integer stands for a
                vector.
            output_size: How many numbers are read of one answer: the network's outputs,
                or what `map_answer` makes of them.
            num_rounds: How many rounds of questions; the network is run as many times,
                one after the other.
            probes_per_round: How many inputs it is run on each time.
            state_size: Length of the recurrent state.
            initializer: Draws the first x_r, as those of `jax.nn.initializers`. Uniform
                on [0, 1) unless given. What the state adds to them has at the start a
                standard deviation of at most 1/√3.
            map_probe: Applied to each probe before the network sees it, such as
                `jnp.tanh` to keep probes from -1 to 1.
            map_answer: Applied to each answer before it is read, such as
                `jax.nn.softmax` for classifiers. Answers far above 1 saturate the
                recurrent cell.
            key: Source of randomness.

        Raises:
            ValueError: If a size is not positive.
        """
        check_positive(
            input_shape=input_shape,
            output_size=output_size,
            num_rounds=num_rounds,
            probes_per_round=probes_per_round,
            state_size=state_size,
        )
        if initializer is None:
            initializer = jax.nn.initializers.uniform(scale=1.0)
        probes_key, cell_key, write_key = split(key, 3)
        shape = (probes_per_round, *shape_of(input_shape))
        self.probes = initializer(probes_key, (num_rounds, *shape), jnp.float32)
        self.cell = gru_cell(
            probes_per_round * output_size,
            state_size,
            dtype=jnp.float32,
            key=cell_key,
        )
        self.write = linear(
            state_size,
            math.prod(shape),
            use_bias=False,
            dtype=jnp.float32,
            key=write_key,
        )
        self.output_size = output_size
        self.map_probe = map_probe
        self.map_answer = map_answer

    @property
    def num_features(self) -> int:
        """Length of the vector: the answers' numbers, and the state's."""
        return self.num_reads + self.cell.hidden_size

    @property
    def num_reads(self) -> int:
        """How many numbers of a network's answers it reads, over all rounds."""
        rounds, probes = self.probes.shape[:2]
        return rounds * probes * self.output_size

    def __call__(self, network: PyTree) -> Float[Array, " features"]:
        """Encodes one network.

        Args:
            network: A callable from one input to one output. The network itself, not
                only its array leaves: it is run.

        Returns:
            Its answers, round after round and probe after probe, and the last state.

        Raises:
            ValueError: If it is not callable, or there is another number of outputs
                to read.
        """

        def ask(
            state: Float[Array, " state"], learned: Float[Array, "probes_per_round ..."]
        ) -> tuple[Float[Array, " state"], Float[Array, " answers"]]:
            probes = learned + self.write(state).reshape(learned.shape)
            answers = answers_to(
                probes, network, self.output_size, self.map_probe, self.map_answer
            ).astype(state.dtype)
            return self.cell(answers, state), answers

        start = jnp.zeros(self.cell.hidden_size, self.probes.dtype)
        state, answers = jax.lax.scan(ask, start, self.probes)
        return jnp.concatenate([answers.ravel(), state])
