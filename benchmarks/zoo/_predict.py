"""From a network's vector to what a task asks for."""

import dataclasses
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Num, PRNGKeyArray, PyTree

from benchmarks.zoo._encoders import Entry, Setting
from benchmarks.zoo._fit import fit, map_networks
from benchmarks.zoo._scale import trained_arrays, VectorScale
from benchmarks.zoo._settings import Settings
from benchmarks.zoo._tasks import Task
from wsl.encoders import AbstractEncoder


@final
class Predictor(eqx.Module):
    """An encoder and a perceptron on its vector.

    Attributes:
        encoder: From a network to a vector.
        scale: Standardises that vector.
        dropout: Of the vector.
        head: From the standardised vector to the result.
        sees_scale: Whether the head is also given the vector divided by its root mean
            square, and the logarithm of that.
    """

    encoder: AbstractEncoder
    scale: VectorScale
    dropout: eqx.nn.Dropout
    head: eqx.nn.MLP
    sees_scale: bool = eqx.field(static=True)

    def __init__(
        self,
        encoder: AbstractEncoder,
        scale: VectorScale,
        out_size: int,
        settings: Settings,
        *,
        sees_scale: bool = False,
        key: PRNGKeyArray,
    ):
        """Draws the head.

        Args:
            encoder: The encoder.
            scale: Standardises its vectors.
            out_size: Length of the result.
            settings: Width of the head, and dropout.
            sees_scale: Whether the head is told the vector's direction and length.
            key: Source of randomness.
        """
        self.encoder = encoder
        self.scale = scale
        self.dropout = eqx.nn.Dropout(settings.dropout)
        self.sees_scale = sees_scale
        self.head = eqx.nn.MLP(
            2 * encoder.num_features + 1 if sees_scale else encoder.num_features,
            out_size,
            settings.width,
            1,
            jax.nn.silu,
            key=key,
        )

    def __call__(
        self, network: PyTree, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " out"]:
        """The result for one network.

        Args:
            network: The network.
            key: Source of randomness for dropout; None for no dropout.

        Returns:
            Logits, or standardised numbers.
        """
        return self.read(self.encoder(network), key=key)

    def read(
        self, vector: Float[Array, " features"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " out"]:
        """The result for an encoder's vector.

        Args:
            vector: The vector.
            key: Source of randomness for dropout; None for no dropout.

        Returns:
            Logits, or standardised numbers.
        """
        read = self.dropout(self.scale(vector), key=key, inference=key is None)
        if self.sees_scale:
            square = jnp.mean(jnp.square(vector)) + 1e-8
            direction = vector * jax.lax.rsqrt(square)
            read = jnp.concatenate([read, direction, jnp.log(square)[None]])
        return self.head(read)

    def trained(self, encoder: bool) -> PyTree:
        """Which arrays learn: those of the head, and of the encoder if it does."""
        return trained_arrays(self, "head", *(["encoder"] if encoder else []))


def train_predictor(
    entry: Entry,
    at: Setting,
    networks: PyTree,
    labels: Num[np.ndarray, "n labels"],
    settings: Settings,
    *,
    key: PRNGKeyArray,
) -> Predictor:
    """Trains an encoder and a head.

    Args:
        entry: The encoder.
        at: What it is made for.
        networks: Training networks, stacked leaf by leaf.
        labels: Their labels.
        settings: How to train.
        key: Source of randomness.

    Returns:
        The predictor.
    """
    encoder_key, head_key, fit_key = jr.split(key, 3)
    encoder = entry.make(at, encoder_key)
    task = at.task
    out_size = 10 if task.kind == "classification" else len(task.labels)
    if task.kind != "classification":
        settings = dataclasses.replace(settings, dropout=0.0)
    rate = settings.rate_for(entry.learning_rate)
    settings = dataclasses.replace(settings, learning_rate=rate)
    if entry.standardises:
        scale = VectorScale.of(encoder, networks)
    else:
        scale = VectorScale.identity(encoder.num_features)
    model = Predictor(
        encoder,
        scale,
        out_size,
        settings,
        sees_scale=task.kind == "regression",
        key=head_key,
    )
    targets = Targets.of(task, labels)
    is_fixed = not (entry.trains or entry.augments)
    if is_fixed:
        networks = map_networks(encoder, networks)

    def loss(model, network, target, key):
        dropout_key, element_key = jr.split(key)
        if is_fixed:
            return targets.loss(model.read(network, key=dropout_key), target)
        if entry.jitter:
            noise = entry.jitter * jr.normal(element_key, model.encoder.probes.shape)
            model = eqx.tree_at(
                lambda model: model.encoder.probes,
                model,
                replace_fn=lambda x: x + noise,
            )
        if entry.augments:
            network = at.space.permute(network, at.space.sample(key=element_key))
        return targets.loss(model(network, key=dropout_key), target)

    model, _ = fit(
        model,
        loss,
        networks,
        targets(labels),
        settings,
        trained=model.trained(entry.trains),
        key=fit_key,
    )
    return model


@final
class Targets(eqx.Module):
    """Labels as a head is to give them.

    Attributes:
        task: The task.
        mean: Mean of each label of a regression over the training networks.
        std: Its standard deviation.
    """

    task: Task = eqx.field(static=True)
    mean: Float[np.ndarray, " labels"]
    std: Float[np.ndarray, " labels"]

    @classmethod
    def of(cls, task: Task, labels: Num[np.ndarray, "n labels"]) -> "Targets":
        """Reads mean and deviation off the training labels."""
        return cls(task, labels.mean(0), labels.std(0))

    def __call__(self, labels: Num[np.ndarray, "n labels"]) -> Num[Array, "n ..."]:
        """From labels to targets."""
        if self.task.kind == "classification":
            return jnp.asarray(labels[:, 0])
        if self.task.kind == "ranking":
            return jnp.asarray(labels, jnp.float32)
        return jnp.asarray((labels - self.mean) / self.std, jnp.float32)

    def loss(self, out: Float[Array, " out"], target: Array) -> Float[Array, ""]:
        """Of what the head gives: cross entropy, or the squared error."""
        if self.task.kind == "classification":
            return optax.softmax_cross_entropy_with_integer_labels(out, target)
        if self.task.kind == "ranking":
            return jnp.mean(optax.sigmoid_binary_cross_entropy(out, target))
        return jnp.mean(jnp.square(out - target))

    def predict(self, out: Float[np.ndarray, "n out"]) -> Float[np.ndarray, "n out"]:
        """From what the head gives to logits, or to numbers in the labels' units."""
        return out * self.std + self.mean if self.task.kind == "regression" else out
