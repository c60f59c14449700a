"""Rendering and dilation, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from wsl.zoo import dilate, render, Siren
from wsl.zoo._digits_inrs import pixel_centres


def test_pixel_centres():
    np.testing.assert_array_equal(
        pixel_centres(2), [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]
    )
    eight = pixel_centres(8)
    assert eight.shape == (64, 2) and eight.dtype == np.float32
    # Rows first: the second pixel is one to the right, by a quarter.
    np.testing.assert_array_equal(eight[:2], [[-0.875, -0.875], [-0.875, -0.625]])


def test_render_equals_a_loop():
    sirens = [Siren(2, 3, 4, 1, key=jax.random.key(i)) for i in range(3)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *sirens)
    points = pixel_centres(2)
    pictures = render(stacked, points)
    assert pictures.shape == (3, 4, 3)
    for picture, siren in zip(pictures, sirens, strict=True):
        for values, point in zip(picture, points, strict=True):
            np.testing.assert_allclose(
                values, siren(jnp.asarray(point)), rtol=1e-5, atol=1e-6
            )


def test_dilate_by_hand():
    image = np.zeros((4, 5), np.float32)
    image[0, 0], image[2, 3], image[3, 4] = 0.5, 1, 0.25
    expected = [
        [0.5, 0.5, 0, 0, 0],
        [0.5, 0.5, 1, 1, 1],
        [0, 0, 1, 1, 1],
        [0, 0, 1, 1, 1],
    ]
    np.testing.assert_array_equal(dilate(image), expected)
    # Pictures of a batch do not mix.
    batch = np.stack([image, np.zeros_like(image)])
    np.testing.assert_array_equal(dilate(batch), [expected, np.zeros((4, 5))])


def test_border_adds_nothing():
    np.testing.assert_array_equal(dilate(np.full((3, 3), -1.0)), np.full((3, 3), -1.0))
