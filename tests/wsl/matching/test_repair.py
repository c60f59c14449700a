"""Units of merged networks are brought back to the spread of their parents."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import wsl
from tests.wsl.helpers import array
from tests.wsl.infer.helpers import draw, numbers
from wsl.matching import average, interpolate, repair


def _net(w, x):
    return jax.nn.relu(x @ w["w"] + w["b"][None]) @ w["o"]


def _weights(w, b):
    return {"w": array([w]), "b": array(b), "o": array([[1.0], [2.0]])}


# On 0 and 2, sums w x + b have mean w + b and deviation |w|.
_X = array([[0.0], [2.0]])
_A = _weights([2.0, 4.0], [1.0, 0.0])  # means 3, 4; deviations 2, 4
_B = _weights([4.0, -2.0], [3.0, 2.0])  # means 7, 0; deviations 4, 2


@pytest.fixture(scope="module")
def space():
    return wsl.infer_weight_space(_net, _A, _X)


def test_one_layer_by_hand(space):
    # Means 5, 2 are those of the parents; of deviations 3, 1 the second is to be 3:
    # thrice the weight, and thrice the distance of the bias from the mean.
    found = repair(space, average([_A, _B]), [_A, _B], _X, fn=_net)
    np.testing.assert_allclose(found["w"], [[3, 3]], rtol=1e-5)
    np.testing.assert_allclose(found["b"], [2, -1], rtol=1e-5)
    np.testing.assert_array_equal(found["o"], _A["o"])
    # At a quarter of the way: weights 2.5, 2.5, means 4, 3, deviations to be 2.5, 3.5.
    quarter = interpolate(_A, _B, 0.25)
    for shares in (None, [3.0, 1.0]):
        found = repair(space, quarter, [_A, _B], _X, fn=_net, shares=shares)
        np.testing.assert_allclose(found["w"], [[2.5, 3.5]], rtol=1e-4)
        np.testing.assert_allclose(found["b"], [1.5, -0.5], rtol=1e-4)
    # A network is its own repair.
    same = repair(space, _A, [_A], _X, fn=_net)
    np.testing.assert_allclose(space.flatten(same), space.flatten(_A), rtol=1e-5)


def test_a_unit_that_is_always_the_same_is_shifted_only(space):
    flat = _weights([2.0, 0.0], [1.0, 5.0])
    found = repair(space, flat, [_A, _B], _X, fn=_net, shares=[1.0, 1.0])
    np.testing.assert_allclose(found["w"], [[3, 0]], atol=1e-6)
    np.testing.assert_allclose(found["b"], [2, 2], rtol=1e-5)


def _batched(model, x):
    return jax.vmap(model)(x)


def _sums(model, x):
    """What each layer of a perceptron adds up, by NumPy."""
    x, found = np.asarray(x, float), []
    for layer in model.layers[:-1]:
        x = x @ np.asarray(layer.weight, float).T + np.asarray(layer.bias, float)
        found.append(x)
        x = np.tanh(x)
    return found


def test_layer_after_layer():
    a, b = (
        draw(eqx.nn.MLP(3, 2, 6, 2, jnp.tanh, key=jr.key(0)), seed=s) for s in (0, 1)
    )
    x = numbers(40, 3)
    space = wsl.infer_weight_space(_batched, a, x)
    merged = average([a, b])
    found = repair(space, merged, [a, b], x, fn=_batched)
    worst = 0.0
    for one, two, mine, naive in zip(
        *(_sums(m, x) for m in (a, b, found, merged)), strict=True
    ):
        for of in (np.mean, np.std):
            target = (of(one, 0) + of(two, 0)) / 2
            np.testing.assert_allclose(of(mine, 0), target, atol=1e-4)
            worst = max(worst, np.abs(of(naive, 0) - target).max())
    assert worst > 0.1  # Control: of the mean as it is, they are others.
    np.testing.assert_array_equal(found.layers[-1].weight, merged.layers[-1].weight)


def test_convolutions_and_norms():
    def fn(w, x):
        h = jax.lax.conv_general_dilated(x, w["k"], (1, 1), "SAME")
        h = jax.nn.relu(h + w["b"][None, :, None, None]).mean((2, 3))
        h = h - h.mean(1, keepdims=True)
        h = h * jax.lax.rsqrt((h**2).mean(1, keepdims=True) + 1e-5)
        return jnp.tanh(h * w["scale"][None] + w["offset"][None]) @ w["o"]

    shapes = {"k": (4, 1, 3, 3), "b": (4,), "scale": (4,), "offset": (4,), "o": (4, 2)}
    make = lambda seed: draw({n: numbers(*s) for n, s in shapes.items()}, seed=seed)
    a, b, x = make(0), make(1), numbers(8, 1, 4, 4)
    space = wsl.infer_weight_space(fn, a, x)
    found = repair(space, average([a, b]), [a, b], x, fn=fn)

    def sums(w):
        h = jax.lax.conv_general_dilated(x, w["k"], (1, 1), "SAME")
        return np.asarray(h + w["b"][None, :, None, None], float)

    for of in (np.mean, np.std):
        target = sum(of(sums(w), (0, 2, 3)) for w in (a, b)) / 2
        np.testing.assert_allclose(of(sums(found), (0, 2, 3)), target, atol=1e-4)
    assert np.abs(np.asarray(found["scale"] - average([a, b])["scale"])).max() > 1e-3


def test_what_cannot_be_mended(space):
    bare = lambda w, x: jax.nn.relu(x @ w["w"]) @ w["o"]
    weights = {"w": _A["w"], "o": _A["o"]}
    other = wsl.infer_weight_space(bare, weights, _X)
    with pytest.raises(ValueError, match="no hidden layer to mend"):
        repair(other, weights, [weights], _X, fn=bare)
    with pytest.raises(ValueError, match="space is not the one"):
        repair(other, weights, [weights], _X, fn=lambda w, x: bare(w, x) @ w["o"].T)
    with pytest.raises(ValueError, match="a share for each"):
        repair(space, _A, [_A, _B], _X, fn=_net, shares=[1.0])
    with pytest.raises(ValueError, match=r"of `parents\[0\]`"):
        repair(space, _A, [{**_A, "b": array([np.nan, 1.0])}], _X, fn=_net)
