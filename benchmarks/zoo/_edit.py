"""From a network to an edited one: INRs of digits that are to show bolder strokes."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from benchmarks.zoo._encoders import ENCODERS, Setting
from benchmarks.zoo._fit import fit, map_networks
from benchmarks.zoo._scale import trained_arrays, VectorScale
from benchmarks.zoo._settings import Settings
from wsl import WeightSpace
from wsl.encoders import AbstractEncoder
from wsl.generators import SliceHyperNetwork
from wsl.nn import (
    EquivariantLinear,
    GraphNetwork,
    IndexEncoding,
    lift,
    lower,
    Pointwise,
    ResidualEdit,
    ScaleGraphNetwork,
)
from wsl.zoo import dilate, Siren, Zoo


_CHANNELS = 16


@final
class Editor(eqx.Module):
    """Adds a small change to weights that are brought to one magnitude first.

    Attributes:
        space: Space of the networks.
        scales: For each leaf, the root mean square of its entries over the training
            networks.
        edit: From weight features to weight features, of one channel.
    """

    space: WeightSpace = eqx.field(static=True)
    scales: tuple[Float[Array, ""], ...]
    edit: ResidualEdit

    def __init__(self, space: WeightSpace, networks: PyTree, layer: Callable):
        """Wraps a layer.

        Args:
            space: Space of the networks.
            networks: Training networks, stacked leaf by leaf.
            layer: From weight features to weight features, of one channel.
        """
        leaves = jax.tree.leaves(eqx.filter(networks, eqx.is_inexact_array))
        self.space = space
        self.scales = tuple(jnp.sqrt(jnp.mean(jnp.square(leaf))) for leaf in leaves)
        self.edit = ResidualEdit(layer)

    def __call__(self, network: PyTree) -> PyTree:
        """Edits one network."""
        scales = jax.tree.unflatten(self.space.treedef, self.scales)
        features = jax.tree.map(jnp.divide, lift(self.space, network), scales)
        features = jax.tree.map(jnp.multiply, self.edit(features), scales)
        return eqx.combine(lower(self.space, features), network)

    def trained(self, encoder: bool) -> PyTree:
        """Which arrays learn: the layers'. There is no encoder."""
        del encoder
        return trained_arrays(self, "edit")


@final
class Rewriter(eqx.Module):
    """Encodes a network and writes another one.

    Attributes:
        encoder: From the network to a vector.
        scale: Standardises that vector.
        generator: From the standardised vector to a network.
    """

    encoder: AbstractEncoder
    scale: VectorScale
    generator: SliceHyperNetwork

    def __init__(self, at: Setting, name: str, *, key: PRNGKeyArray):
        """Draws both.

        Args:
            at: What the encoder is made for.
            name: Name of the encoder.
            key: Source of randomness.
        """
        encoder_key, generator_key = jr.split(key)
        self.encoder = ENCODERS[name].make(at, encoder_key)
        self.scale = VectorScale.of(self.encoder, at.networks)
        self.generator = SliceHyperNetwork(
            lambda key: like(at.network, key=key),
            self.encoder.num_features,
            width=128,
            space=at.space,
            key=generator_key,
        )

    def __call__(self, network: PyTree) -> PyTree:
        """Writes a network for another."""
        return self.generator(self.scale(self.encoder(network)))

    def trained(self, encoder: bool) -> PyTree:
        """Which arrays learn: the generator's, and the encoder's if it does."""
        parts = ["body", "writer.gains", "writer.offsets"]
        names = [f"generator.{part}" for part in parts]
        return trained_arrays(self, *names, *(["encoder"] if encoder else []))


@final
class _FlatLayer(eqx.Module):
    """A perceptron from all weights to all weights."""

    space: WeightSpace = eqx.field(static=True)
    perceptron: eqx.nn.MLP

    def __init__(self, space: WeightSpace, width: int, *, key: PRNGKeyArray):
        size = space.size
        self.space = space
        self.perceptron = eqx.nn.MLP(size, size, width, 1, jax.nn.silu, key=key)

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        vector = self.space.flatten(lower(self.space, features))
        return lift(self.space, self.space.unflatten(self.perceptron(vector)))


def like(network: Siren, *, key: PRNGKeyArray) -> Siren:
    """A newly initialised network of the same form."""
    out_size, width = network.layers[-1].weight.shape
    return Siren(
        network.layers[0].weight.shape[1],
        out_size,
        width,
        len(network.frequencies),
        first_frequency=network.frequencies[0],
        hidden_frequency=network.frequencies[-1],
        key=key,
    )


def make_editor(
    name: str, at: Setting, settings: Settings, *, key: PRNGKeyArray
) -> Editor | Rewriter:
    """The editor that goes with an encoder's name.

    Args:
        name: Name of an encoder.
        at: What it is made for.
        settings: Width of the perceptron that reads and writes flat weights.
        key: Source of randomness.

    Returns:
        A small change by layers of the encoder's family where there are such; else
        the encoder and a generator.
    """
    space = at.space
    layer: Callable
    if name == "flat":
        layer = _FlatLayer(space, settings.width, key=key)
    elif name == "graph":
        layer = GraphNetwork(space, 1, 1, hidden_channels=_CHANNELS, key=key)
    elif name == "scale-graph":
        layer = ScaleGraphNetwork(
            at.symmetry, 1, 1, hidden_channels=_CHANNELS, num_layers=2, key=key
        )
    elif name in ("equivariant", "equivariant-np"):
        released = tuple(space.fixed) if name == "equivariant-np" else ()
        inner = space.unfix(*released)
        encoding_key, *keys = jr.split(key, 4)
        layer = eqx.nn.Sequential(
            [
                EquivariantLinear(inner, 1, _CHANNELS, key=keys[0]),
                IndexEncoding(space, released, _CHANNELS, key=encoding_key),
                Pointwise(jax.nn.relu),
                EquivariantLinear(inner, _CHANNELS, _CHANNELS, key=keys[1]),
                Pointwise(jax.nn.relu),
                EquivariantLinear(inner, _CHANNELS, 1, key=keys[2]),
            ]
        )
    else:
        return Rewriter(at, name, key=key)
    return Editor(space, at.networks, layer)


def train_editor(
    name: str,
    at: Setting,
    zoo: Zoo,
    settings: Settings,
    *,
    key: PRNGKeyArray,
) -> Editor | Rewriter:
    """Trains an editor: mean squared error of the edited network's picture.

    Args:
        name: Name of an encoder.
        at: What it is made for.
        zoo: Training networks.
        settings: How to train.
        key: Source of randomness.

    Returns:
        The editor.
    """
    editor_key, fit_key = jr.split(key)
    editor = make_editor(name, at, settings, key=editor_key)
    points = jnp.asarray(zoo.data["coordinates"])

    def loss(editor, network, target, key):
        del key
        shown = jax.vmap(editor(network))(points)
        return jnp.mean(jnp.square(shown[:, 0] - target))

    targets = jnp.asarray(targets_of(zoo))
    editor, _ = fit(
        editor,
        loss,
        zoo.networks,
        targets,
        settings,
        trained=editor.trained(ENCODERS[name].trains),
        key=fit_key,
    )
    return editor


def targets_of(zoo: Zoo) -> Float[np.ndarray, "networks pixels"]:
    """The dilated picture of each network's digit."""
    dilated = dilate(zoo.data["images"])
    return dilated[zoo.labels["image"]].reshape(len(zoo), -1)


def shown_by(editor: Callable, zoo: Zoo) -> Float[np.ndarray, "networks pixels"]:
    """What edited networks show."""
    points = jnp.asarray(zoo.data["coordinates"])
    pictures = map_networks(
        lambda network: jax.vmap(editor(network))(points)[:, 0], zoo.networks
    )
    return np.asarray(pictures)


def untrained(name: str, train: Zoo, test: Zoo) -> Float[np.ndarray, "networks pixels"]:
    """Pictures that need no training.

    Args:
        name: `"identity"`: what the networks show unedited; `"mean-image"`: the mean
            of the dilated pictures of training; `"pixels"`: the dilation of what the
            networks show.
        train: Training networks.
        test: The networks to edit.

    Returns:
        A picture for each network of `test`.
    """
    if name == "mean-image":
        return np.broadcast_to(targets_of(train).mean(0), (len(test), 64))
    shown = shown_by(lambda network: network, test)
    if name == "identity":
        return shown
    return dilate(shown.reshape(-1, 8, 8)).reshape(len(test), -1)


UNTRAINED = ("identity", "mean-image", "pixels")
