from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np
import scipy.ndimage
from jaxtyping import Array, Float


def render(
    networks: Callable, coordinates: Float[Array | np.ndarray, "points coordinates"]
) -> Float[Array, "networks points outputs"]:
    """What implicit neural representations show at given points.

    Args:
        networks: Networks stacked leaf by leaf, as in a [`Zoo`][wsl.zoo.Zoo].
        coordinates: The points, for instance `zoo.data["coordinates"]`.

    Returns:
        Every network's outputs at every point. Of digits,
        `render(...).reshape(-1, 8, 8)` are the pictures.
    """
    return eqx.filter_vmap(lambda network: jax.vmap(network)(coordinates))(networks)


def dilate(
    images: Float[np.ndarray, "*batch rows columns"],
) -> Float[np.ndarray, "*batch rows columns"]:
    """Grey dilation: every pixel becomes the brightest of the 3 x 3 around it.

    At the border, of those there are.

    Args:
        images: Grey values.

    Returns:
        The dilated pictures.
    """
    size = (1,) * (images.ndim - 2) + (3, 3)
    return scipy.ndimage.grey_dilation(images, size=size, mode="nearest")
