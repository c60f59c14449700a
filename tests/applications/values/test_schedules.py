"""Rates over a run, at its ends and in the middle."""

import jax.numpy as jnp
import numpy as np
import pytest

from applications.values import schedule


@pytest.mark.parametrize(
    "kind, middle, last",
    # From 0.4 to 0.1; cosine is half-way there in the middle too.
    [("constant", 0.4, 0.4), ("linear", 0.25, 0.1), ("cosine", 0.25, 0.1)]
    # By the same factor at each step: the root of 0.4 times 0.1.
    + [("geometric", 0.2, 0.1)],
)
def test_by_hand(kind, middle, last):
    rate = schedule(0.4, kind, 10, end=0.1)
    for count, expected in ((0, 0.4), (5, middle), (10, last), (20, last)):
        np.testing.assert_allclose(rate(jnp.asarray(count)), expected, rtol=1e-5)
