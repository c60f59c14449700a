import dataclasses
import functools
import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from wsl.zoo._cache import cached
from wsl.zoo._digits import load_images, split_images
from wsl.zoo._fit import in_chunks
from wsl.zoo._zoo import split_by_order, Zoo


UNSEEN_WIDTH = 24


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that a zoo of digits' MLPs depends on."""

    num_networks: int
    widths: tuple[int, ...]
    seed: int
    steps: int = 300
    batch_size: int = 32
    largest_weight: float = 1e4
    # To be raised with any change of what these settings give.
    recipe: int = 1

    def __post_init__(self):
        if not self.widths or min(self.widths) < 1 or UNSEEN_WIDTH in self.widths:
            raise ValueError(
                f"`widths` must be positive numbers other than {UNSEEN_WIDTH}, the "
                f"width of networks out of range; got {self.widths}."
            )


def digits_mlps(
    *,
    num_networks: int = 1000,
    widths: Sequence[int] = (16,),
    seed: int = 0,
    cache: bool = True,
) -> Zoo:
    """Classifiers of handwritten digits, from useless to good.

    Each is an `equinox.nn.MLP` 64-w-w-10 with ReLU, trained on scikit-learn's pictures
    of 8 x 8 pixels (grey values from 0 to 1) by 300 steps of plain stochastic gradient
    descent on the cross-entropy, 32 pictures a step. It starts from He's normal
    initialisation times a scale, with biases zero. Learning rates are log-uniform from
    0.001 to 1, scales from 0.3 to 3.

    The pictures' split is that of [`digits_inrs`][wsl.zoo.digits_inrs]: networks learn
    from the 1,200 in `"train"`, and accuracy and loss are those on the 397 in `"test"`.

    Networks: the first 70 % are in `"train"`, the next 10 % in `"validation"`, the rest
    in `"test"`; widths are dealt out in turn. A fifth more have learning rates from 1
    to 3, and as many again have hidden layers of width 24: both are `"out_of_range"`.

    Training stops early where the next step would take a weight beyond 10,000 in
    absolute value (or to no number at all), and leaves the last weights below it, so
    that every weight is finite. With the default arguments this befalls one network
    within the range and four beyond.

    Args:
        num_networks: How many networks, beside those out of range.
        widths: Widths of the hidden layers, each a group of the zoo. Not 24.
        seed: Seed of the networks. The splits do not depend on it.
        cache: Whether to keep the zoo on disk, and read it from there.

    Returns:
        The zoo, one group for each width, in ascending order, the last one of width 24.
        Labels: `accuracy`, from 0 to 1; `loss`, the mean cross-entropy in nats;
        `learning_rate`; `scale`; `width`; `diverged`, whether training stopped early.
        Data: `images`, `(1797, 8, 8)`; `digits`, `(1797,)`; `parts`, the split of each
        picture.

    Raises:
        ValueError: If there are fewer than 10 networks, or a width is not positive or
            is 24.
    """
    return make_digits_mlps(Settings(num_networks, tuple(widths), seed), cache)


def make_digits_mlps(settings: Settings, cache: bool) -> Zoo:
    """The zoo of given settings, from disk if it is there."""
    return cached(
        "digits-mlps",
        dataclasses.asdict(settings),
        lambda: [_start(width, 1.0, jr.key(0)) for width in _all_widths(settings)],
        functools.partial(_make, settings),
        cache=cache,
    )


def _all_widths(settings: Settings) -> tuple[int, ...]:
    return (*sorted(set(settings.widths)), UNSEEN_WIDTH)


def _start(width: int, scale: float | Array, key: PRNGKeyArray) -> eqx.nn.MLP:
    """He's initialisation times `scale`, biases zero."""
    network = eqx.nn.MLP(64, 10, width, 2, jax.nn.relu, key=key)
    shapes = [linear.weight.shape for linear in network.layers]
    # All numbers by one draw: XLA compiles every draw by itself.
    ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
    draws = jnp.split(scale * jr.normal(key, (ends[-1],)), ends[:-1])
    layers = tuple(
        eqx.tree_at(
            lambda linear: (linear.weight, linear.bias),
            linear,
            (math.sqrt(2 / shape[1]) * draw.reshape(shape), jnp.zeros(shape[0])),
        )
        for linear, shape, draw in zip(network.layers, shapes, draws, strict=True)
    )
    return eqx.tree_at(lambda network: network.layers, network, layers)


def _make(settings: Settings) -> Zoo:
    images, digits = load_images()
    image_parts = split_images(digits)
    train, test = (
        (images[chosen].reshape(-1, 64), np.eye(10, dtype=np.float32)[digits[chosen]])
        for chosen in (image_parts == "train", image_parts == "test")
    )

    parts = split_by_order(settings.num_networks)
    beyond = np.flatnonzero(parts == "out_of_range")
    # As many again, of a width that no other split has.
    parts = np.concatenate([parts, parts[beyond]])
    width = np.resize(settings.widths, len(parts))
    width[-len(beyond) :] = UNSEEN_WIDTH
    faster = np.zeros(len(parts), bool)
    faster[beyond] = True
    log_low = np.where(faster, 0, -3).astype(np.float32)
    log_high = np.where(faster, np.log10(3), 0).astype(np.float32)
    keys = jr.split(jr.key(settings.seed), len(parts))

    groups, labels, order = [], [], []
    for chosen in _all_widths(settings):
        members = np.flatnonzero(width == chosen)
        order.append(members)
        one = functools.partial(_make_one, settings, chosen, train, test)
        networks, found = in_chunks(
            one,
            (keys[members], log_low[members], log_high[members]),
            jnp.asarray(settings.largest_weight),
        )
        groups.append(networks)
        labels.append({**found, "width": np.full(len(members), chosen)})
    return Zoo(
        tuple(groups),
        {
            name: np.concatenate([np.asarray(x[name]) for x in labels])
            for name in labels[0]
        },
        parts[np.concatenate(order)],
        {"images": images, "digits": digits, "parts": image_parts},
    )


def _make_one(settings, width, train, test, key, log_low, log_high, largest):
    hkey, start_key, batch_key = jr.split(key, 3)
    rate, scale = jr.uniform(hkey, (2,))
    rate = 10 ** (log_low + (log_high - log_low) * rate)
    scale = 0.3 * 10**scale
    weights, rest = eqx.partition(_start(width, scale, start_key), eqx.is_array)
    # `jr.randint` takes twice as long to compile.
    picks = jr.uniform(batch_key, (settings.steps, settings.batch_size))
    picks = jnp.floor(picks * len(train[0])).astype(jnp.int32)

    def logits(weights, images):
        return jax.vmap(eqx.combine(weights, rest))(images)

    def loss(weights, images, targets):
        entropies = optax.softmax_cross_entropy(logits(weights, images), targets)
        return jnp.mean(entropies)

    def step(carry, picked):
        weights, going = carry
        batch = [jnp.asarray(x)[picked] for x in train]
        gradient = jax.grad(loss)(weights, *batch)
        moved = jax.tree.map(lambda x, dx: x - rate * dx, weights, gradient)
        for x in jax.tree.leaves(moved):
            # Also false where a weight is not a number.
            going &= jnp.all(jnp.abs(x) <= largest)
        weights = jax.tree.map(lambda x, y: jnp.where(going, y, x), weights, moved)
        return (weights, going), None

    (weights, going), _ = jax.lax.scan(step, (weights, jnp.asarray(True)), picks)
    right = logits(weights, test[0]).argmax(axis=1) == test[1].argmax(axis=1)
    return eqx.combine(weights, rest), {
        "accuracy": jnp.mean(right, dtype=jnp.float32),
        "loss": loss(weights, *test),
        "learning_rate": rate,
        "scale": scale,
        "diverged": ~going,
    }
