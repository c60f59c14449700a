import dataclasses
import functools
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from wsl.zoo._cache import cached
from wsl.zoo._digits import choose_images, load_images, NUM_IMAGES, split_images
from wsl.zoo._fit import fit_siren, in_chunks, join
from wsl.zoo._siren import Siren
from wsl.zoo._zoo import Zoo


Initialisation = Literal["independent", "shared"]
"""Whether every network starts from weights of its own, or all from the same."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that a zoo of digits' INRs depends on."""

    copies: int
    initialisation: str
    shuffle: bool
    seed: int
    steps: int = 60
    learning_rate: float = 2e-3
    num_images: tuple[int, ...] = tuple(NUM_IMAGES.values())
    # To be raised with any change of what these settings give.
    recipe: int = 1

    def __post_init__(self):
        if self.copies < 1:
            raise ValueError(f"`copies` must be positive; got {self.copies}.")
        if self.initialisation not in ("independent", "shared"):
            raise ValueError(
                "`initialisation` must be 'independent' or 'shared'; got "
                f"{self.initialisation!r}."
            )


def digits_inrs(
    *,
    copies: int = 1,
    initialisation: Initialisation = "independent",
    shuffle: bool = False,
    seed: int = 0,
    cache: bool = True,
) -> Zoo:
    """Implicit neural representations (INRs) of handwritten digits.

    Each network is a [`Siren`][wsl.zoo.Siren] 2-24-24-1 (frequencies 10 and 30) that
    gives the grey value of one of scikit-learn's 1,797 pictures of 8 x 8 pixels at any
    point of it, fitted to the pixels by 60 steps of Adam at a rate of 0.002.

    Splits are by picture, always the same, and have the digits in equal parts: 1,200
    pictures in `"train"`, 200 in `"validation"`, 397 in `"test"`. `"out_of_range"` has
    other networks of the test pictures, fitted with twice as many steps.

    Args:
        copies: How many networks each training picture has. Those of the other splits
            have one each.
        initialisation: `"independent"`: every network starts from weights of its own.
            `"shared"`: all start from the same, so that their neurons stay aligned.
        shuffle: Whether to permute each network's hidden neurons and change their signs
            at random in the end, which leaves its function as it is.
        seed: Seed of the networks' weights. The splits do not depend on it.
        cache: Whether to keep the zoo on disk, and read it from there.

    Returns:
        The zoo. Labels: `digit`; `image`, its index in `data["images"]`; `copy`, which
        counts networks of one picture; `psnr`, the peak signal-to-noise ratio at the
        pixels, in decibels. Data: `images`, grey values from 0 to 1, `(1797, 8, 8)`;
        `coordinates`, of the pixels' centres, from -1 to 1, row and column, `(64, 2)`.

    Raises:
        ValueError: If an argument is not one of those above.

    Examples:
        >>> import wsl.zoo
        >>> zoo = wsl.zoo.digits_inrs()
        >>> train, test = zoo.split("train"), zoo.split("test")
        >>> len(train), len(test)
        (1200, 397)
    """
    return make_digits_inrs(Settings(copies, initialisation, shuffle, seed), cache)


def make_digits_inrs(settings: Settings, cache: bool) -> Zoo:
    """The zoo of given settings, from disk if it is there."""
    return cached(
        "digits-inrs",
        dataclasses.asdict(settings),
        lambda: (_start(jr.key(0)),),
        functools.partial(_make, settings),
        cache=cache,
    )


def pixel_centres(size: int) -> np.ndarray:
    """Row and column of each pixel's centre, for a picture that spans -1 to 1."""
    line = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    rows, columns = np.meshgrid(line, line, indexing="ij")
    return np.stack([rows.ravel(), columns.ravel()], axis=-1)


def _start(key) -> Siren:
    return Siren(2, 1, 24, 2, first_frequency=10.0, hidden_frequency=30.0, key=key)


@jax.jit
def _key_each(key, image, copy):
    """A key for each network, the same one however many copies there are."""
    return jax.vmap(lambda i, j: jr.fold_in(jr.fold_in(key, i), j))(image, copy)


def _make(settings: Settings) -> Zoo:
    images, digits = load_images()
    splits = split_images(digits)
    image, copy, parts = [], [], []
    for split, number in zip(NUM_IMAGES, settings.num_images, strict=True):
        chosen = choose_images(splits, split, number)
        for i in range(settings.copies if split == "train" else 1):
            image.append(chosen)
            copy.append(np.full(len(chosen), i))
            parts += [split] * len(chosen)
    # The test pictures again, fitted for longer.
    image.append(image[-1])
    copy.append(copy[-1] + 1)
    longer = len(parts)
    parts += ["out_of_range"] * len(image[-1])
    image, copy = np.concatenate(image), np.concatenate(copy)
    values = images.reshape(-1, 64)[image]

    coordinates = pixel_centres(8)
    start_key, shuffle_key = jr.split(jr.key(settings.seed))
    if settings.initialisation == "independent":
        keys = _key_each(start_key, image, copy)
    else:
        keys = jnp.broadcast_to(start_key, image.shape)

    def make_one(key, values, steps):
        siren, error = fit_siren(
            _start(key), coordinates, values, steps, settings.learning_rate
        )
        return siren, -10 * jnp.log10(error)

    def make(part, steps):
        inputs, steps = (keys[part], values[part]), jnp.asarray(steps)
        return in_chunks(make_one, inputs, steps, size=min(longer, 256))

    networks, psnr = join(
        make(slice(longer), settings.steps),
        make(slice(longer, None), 2 * settings.steps),
    )
    if settings.shuffle:
        shuffle = eqx.filter_jit(eqx.filter_vmap(lambda x, key: x.shuffle(key=key)))
        networks = shuffle(networks, _key_each(shuffle_key, image, copy))
    labels = {
        "digit": digits[image],
        "image": image,
        "copy": copy,
        "psnr": np.asarray(psnr),
    }
    data = {"images": images, "coordinates": coordinates}
    return Zoo((networks,), labels, np.asarray(parts), data)
