"""The encoders by name, as the benchmark sets them up."""

import dataclasses
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from benchmarks.zoo._fit import map_networks
from benchmarks.zoo._tasks import Task
from wsl import infer_weight_space, WeightSpace
from wsl.encoders import (
    AbstractEncoder,
    Equivariant,
    Flat,
    ForwardGraph,
    GeneratedProbing,
    Graph,
    InteractiveProbing,
    LearnedValidationSet,
    Probing,
    ScaleEquivariantGraph,
    Statistics,
    Transformer,
)
from wsl.nn import lift, ScaleSymmetry, SignedLog, SinePhases, Standardize
from wsl.zoo import Siren
from wsl.zoo._sine import sine


@dataclasses.dataclass(frozen=True)
class Setting:
    """What encoders are made for.

    Attributes:
        task: The task.
        networks: Networks to learn from, stacked leaf by leaf.
        network: The first of them, for its form.
        space: Their weight space.
    """

    task: Task
    networks: PyTree
    network: PyTree
    space: WeightSpace

    @classmethod
    def of(cls, task: Task, networks: PyTree) -> "Setting":
        """The setting for networks of one architecture.

        Args:
            task: The task.
            networks: Networks to learn from, stacked leaf by leaf.

        Returns:
            The setting, with the networks' space as inferred.
        """
        network = jax.tree.map(lambda x: x[0] if eqx.is_array(x) else x, networks)
        space = infer_weight_space(network, jnp.zeros(task.in_size))
        return cls(task, networks, network, space)

    @property
    def symmetry(self) -> ScaleSymmetry:
        """The symmetry of the networks' units."""
        return ScaleSymmetry.from_space(self.space, self.task.units)

    @property
    def phases(self) -> SinePhases | None:
        """For networks of sines, what makes their phases canonical."""
        if not isinstance(self.network, Siren):
            return None
        pairs = zip(self.space.groups, self.network.frequencies, strict=True)
        return SinePhases(self.space, dict(pairs))

    @property
    def transform(self) -> SignedLog | SinePhases:
        """What is done to weights of whatever magnitude."""
        return SignedLog() if self.phases is None else self.phases

    @property
    def standardised(self) -> Callable[[PyTree], PyTree]:
        """The same, and each leaf's mean and deviation taken out."""
        transform = self.transform
        features = map_networks(
            lambda network: transform(lift(self.space, network)), self.networks
        )
        return eqx.nn.Sequential([transform, Standardize.fit(self.space, features)])


Make = Callable[[Setting, PRNGKeyArray], AbstractEncoder]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        make: Makes the encoder.
        says: What it is.
        trains: Whether the encoder learns, or the head alone.
        augments: Whether networks are permuted at random in training.
        aligns: Whether all networks are first matched to one of them.
        jitter: Deviation of the noise on the probes in training.
        learning_rate: Its own learning rate, found on validation networks.
        standardises: Whether vectors are divided by their first deviations.
        any_size: Whether it takes networks of other sizes than it learned on.
    """

    make: Make
    says: str
    trains: bool = True
    augments: bool = False
    aligns: bool = False
    jitter: float = 0.0
    learning_rate: float | None = None
    standardises: bool = True
    any_size: bool = False


def _box(task: Task) -> Callable[..., Array]:
    """Draws probes where the networks were trained, evenly along a line."""

    def initialise(key: PRNGKeyArray, shape: tuple[int, ...], dtype=jnp.float32):
        if task.in_size > 1:
            return jr.uniform(key, shape, dtype, task.low, task.high)
        places = jnp.arange(math.prod(shape), dtype=dtype).reshape(shape)
        places = places + jr.uniform(key, shape, dtype)
        return task.low + (task.high - task.low) * places / places.size

    return initialise


def _probing(count: int) -> Make:
    def make(at: Setting, key: PRNGKeyArray) -> AbstractEncoder:
        task = at.task
        return Probing(
            task.in_size,
            task.out_size,
            count,
            initializer=_box(task),
            map_answer=_read(task),
            key=key,
        )

    return make


def _read(task: Task) -> Callable[[Array], Array]:
    """Classifiers answer with probabilities, as they are scored by them."""
    return jax.nn.softmax if task.kind == "ranking" else jnp.asarray


def _pixels(at: Setting, key: PRNGKeyArray) -> AbstractEncoder:
    task = at.task
    count = round(64 ** (1 / task.in_size))
    axis = np.linspace(task.low, task.high, 2 * count + 1)[1::2]
    grid = np.stack(np.meshgrid(*[axis] * task.in_size, indexing="ij"), axis=-1)
    grid = grid.reshape(-1, task.in_size)
    return Probing(
        task.in_size,
        task.out_size,
        len(grid),
        initializer=lambda key, shape, dtype: jnp.asarray(grid, dtype),
        key=key,
    )


def _forward(activation: Callable[[Array], Array] | None, channels: int = 64) -> Make:
    return lambda at, key: ForwardGraph(
        at.symmetry,
        64,
        channels=channels,
        activation=activation,
        # Logarithms would not commute with the scales of units.
        transform=at.phases,
        key=key,
    )


ENCODERS: dict[str, Entry] = {
    "flat": Entry(lambda at, key: Flat(at.space), "all weights", trains=False),
    "flat-augmented": Entry(
        lambda at, key: Flat(at.space),
        "all weights, permuted at random in training",
        trains=False,
        augments=True,
    ),
    "flat-matched": Entry(
        lambda at, key: Flat(at.space),
        "all weights, after `match_weights`",
        trains=False,
        aligns=True,
    ),
    "statistics": Entry(
        lambda at, key: Statistics(at.space), "7 statistics a leaf", trains=False
    ),
    "random-probes": Entry(
        _probing(16), "16 random probes", trains=False, any_size=True
    ),
    "probing-8": Entry(_probing(8), "8 learned probes", any_size=True),
    "probing": Entry(_probing(16), "16 learned probes", any_size=True),
    "generated-probing": Entry(
        lambda at, key: GeneratedProbing(
            at.task.in_size, at.task.out_size, 16, map_answer=_read(at.task), key=key
        ),
        "16 generated probes",
        any_size=True,
    ),
    "interactive-probing": Entry(
        lambda at, key: InteractiveProbing(
            at.task.in_size,
            at.task.out_size,
            4,
            4,
            initializer=_box(at.task),
            map_answer=_read(at.task),
            key=key,
        ),
        "4 rounds of 4 probes",
        any_size=True,
    ),
    "learned-validation-set": Entry(
        lambda at, key: LearnedValidationSet(
            at.task.in_size,
            at.task.out_size,
            128,
            initializer=lambda key, shape, dtype: (
                0.3 + 0.05 * jr.normal(key, shape, dtype)
            ),
            key=key,
        ),
        "128 learned probes with learned labels",
        any_size=True,
        jitter=0.15,
        learning_rate=1e-2,
        standardises=False,
    ),
    "equivariant": Entry(
        lambda at, key: Equivariant(at.space, 64, transform=at.standardised, key=key),
        "equivariant layers, ends fixed",
    ),
    "equivariant-np": Entry(
        lambda at, key: Equivariant(
            at.space,
            64,
            release=at.space.fixed,
            transform=at.standardised,
            key=key,
        ),
        "equivariant layers, ends encoded",
    ),
    "transformer": Entry(
        lambda at, key: Transformer(
            at.space,
            64,
            channels=8,
            num_layers=1,
            release=at.space.fixed,
            transform=at.standardised,
            key=key,
        ),
        "attention over weights",
    ),
    "graph": Entry(
        lambda at, key: Graph(
            at.space, 64, channels=8, num_layers=2, transform=at.standardised, key=key
        ),
        "message passing",
    ),
    "scale-graph": Entry(
        lambda at, key: ScaleEquivariantGraph(
            at.symmetry,
            64,
            channels=8,
            num_layers=2,
            bidirectional=False,
            transform=at.phases,
            key=key,
        ),
        "scale-equivariant message passing",
    ),
    "forward-graph": Entry(_forward(None), "one forward sweep"),
    "forward-graph-tanh": Entry(_forward(jnp.tanh), "tanh sweep"),
    "forward-graph-own": Entry(
        lambda at, key: _forward(sine if at.phases else jax.nn.relu, 128)(at, key),
        "one forward sweep with the networks' own activation",
    ),
    "pixels": Entry(_pixels, "64 points of a grid: the image itself", trains=False),
}
"""The rows of the table by name."""
