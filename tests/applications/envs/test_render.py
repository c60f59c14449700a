"""Films of episodes: of tasks that draw themselves, and what cannot be drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from applications.envs import check_film, make, render
from applications.policies import MLPPolicy


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_film_of_cartpole(suffix, tmp_path):
    task = make("cartpole", horizon=7)
    policy = MLPPolicy(task, (), key=jax.random.key(0))
    render(task, policy, tmp_path / f"film{suffix}", key=jax.random.key(1))
    with Image.open(tmp_path / f"film{suffix}") as film:
        assert film.size == (640, 480)
        # Every second of 7 control steps, of 0.02 s each, and the end.
        assert getattr(film, "n_frames", 1) == 5


@pytest.mark.parametrize(
    ("name", "here", "there"),
    [
        ("cartpole", [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]),
        ("mountain_car_continuous", [-0.5, 0.0], [0.3, 0.0]),
    ],
)
def test_what_moves_is_drawn_elsewhere(name, here, there):
    task = make(name)
    first, second = (task.draw(jnp.array(x), 120, 160) for x in (here, there))
    assert first.shape == second.shape == (120, 160, 3) and first.dtype == np.uint8

    # The body is blue: its middle moves to the right.
    def middle(picture):
        red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
        return np.argwhere(blue > red + 50)[:, 1].mean()

    assert middle(second) > middle(first) + 20
    np.testing.assert_array_equal(first, task.draw(jnp.array(here), 120, 160))


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(ValueError, match="must end in .webp, .gif, .mp4"):
        check_film(make("cartpole"), tmp_path / "film.avi")
    with pytest.raises(ValueError, match="LQR cannot be drawn: it has neither"):
        check_film(make("lqr"), tmp_path / "film.webp")
