import dataclasses
import functools
import math

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from wsl.zoo._cache import cached
from wsl.zoo._fit import fit_siren, in_chunks
from wsl.zoo._siren import Siren
from wsl.zoo._zoo import split_by_order, Zoo


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that a zoo of sines depends on."""

    num_networks: int
    seed: int
    steps: int = 500
    learning_rate: float = 1e-3
    num_points: int = 128
    # To be raised with any change of what these settings give.
    recipe: int = 1


def sine_inrs(*, num_networks: int = 500, seed: int = 0, cache: bool = True) -> Zoo:
    """Implicit neural representations (INRs) of sines, f(x) = a sin(b x).

    Amplitude `a` and frequency `b` are uniform on [0, 10]. Each network is a
    [`Siren`][wsl.zoo.Siren] 1-32-32-1 (frequencies 10 and 30), fitted to 128 points
    x from -π to π by 500 steps of Adam at a rate of 0.001.

    The first 70 % of the networks are in `"train"`, the next 10 % in `"validation"`,
    the rest in `"test"`. A fifth more are `"out_of_range"`: their `b` is uniform on
    [10, 12].

    Source of the functions: Navon et al. 2023 (DWSNets).

    Args:
        num_networks: How many networks, beside those out of range.
        seed: Seed of the functions and of the networks' first weights.
        cache: Whether to keep the zoo on disk, and read it from there.

    Returns:
        The zoo. Labels: `a`, `b`, and `mse`, the mean squared error at the points.
        Data: `coordinates`, `(128, 1)`.

    Raises:
        ValueError: If there are fewer than 10 networks.
    """
    return make_sine_inrs(Settings(num_networks, seed), cache)


def make_sine_inrs(settings: Settings, cache: bool) -> Zoo:
    """The zoo of given settings, from disk if it is there."""
    return cached(
        "sine-inrs",
        dataclasses.asdict(settings),
        lambda: (_start(jr.key(0)),),
        functools.partial(_make, settings),
        cache=cache,
    )


def _start(key) -> Siren:
    return Siren(1, 1, 32, 2, first_frequency=10.0, hidden_frequency=30.0, key=key)


def _make(settings: Settings) -> Zoo:
    parts = split_by_order(settings.num_networks)
    coordinates = np.linspace(-math.pi, math.pi, settings.num_points, dtype=np.float32)
    coordinates = coordinates[:, None]
    beyond = parts == "out_of_range"
    keys = jr.split(jr.key(settings.seed), len(parts))

    def make_one(key, low, high):
        abkey, start_key = jr.split(key)
        a, b = jr.uniform(abkey, (2,))
        a, b = 10 * a, low + (high - low) * b
        values = a * jnp.sin(b * coordinates[:, 0])
        siren, error = fit_siren(
            _start(start_key),
            coordinates,
            values,
            settings.steps,
            settings.learning_rate,
        )
        return siren, {"a": a, "b": b, "mse": error}

    low = np.where(beyond, 10, 0).astype(np.float32)
    high = np.where(beyond, 12, 10).astype(np.float32)
    networks, labels = in_chunks(make_one, (keys, low, high))
    return Zoo(
        (networks,),
        {name: np.asarray(x) for name, x in labels.items()},
        parts,
        {"coordinates": coordinates},
    )
