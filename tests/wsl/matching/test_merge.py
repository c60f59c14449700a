"""Networks made one: many at once, by activations, along the line, and statistics."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import wsl
from tests.wsl.helpers import act_on_network, array, call, draw_element, make_space
from tests.wsl.infer.helpers import draw, numbers
from wsl.matching import (
    average,
    barrier,
    interpolate,
    match_activations,
    match_many,
    reset_statistics,
)


KEY = jr.key(0)


@pytest.fixture(scope="module")
def mlp():
    model = draw(eqx.nn.MLP(3, 2, 5, 2, key=KEY), seed=4)
    return model, wsl.infer_weight_space(model, array(np.ones(3)))


def _batched(model, batch):
    return jax.vmap(model)(batch)


# Weights of leaves.


def test_leaves_count_as_they_are_weighted():
    # By the means, the first of b goes to the first of a; by the statistics, it does
    # not, and those are a hundred times larger.
    a = {"mean": array([0.0, 100.0]), "w": array([1.0, 2.0])}
    b = {"mean": array([0.0, 100.0]), "w": array([2.0, 1.0])}
    space = make_space({"mean": (2,), "w": (2,)}, {"mean": ("g",), "w": ("g",)})
    match = wsl.match_weights(space, a, b, key=KEY)
    assert match.element["g"].tolist() == [0, 1]
    assert match.distance == pytest.approx(np.sqrt(2))
    match = wsl.match_weights(space, a, b, key=KEY, leaf_weights={"['mean']": 0.0})
    assert match.element["g"].tolist() == [1, 0]
    assert match.distance == 0
    weighted = wsl.match_weights(space, a, b, key=KEY, leaf_weights={"['w']": 4.0})
    assert weighted.distance == pytest.approx(2 * np.sqrt(2))
    with pytest.raises(ValueError, match=r"Unknown: \['w'\]"):
        wsl.match_weights(space, a, b, key=KEY, leaf_weights={"w": 1.0})
    with pytest.raises(ValueError, match="wrong"):
        wsl.match_weights(space, a, b, key=KEY, leaf_weights={"['w']": -1.0})


# Many.


def test_copies_are_brought_into_one_order(mlp):
    model, space = mlp
    copies = [act_on_network(space, model, draw_element(space, s)) for s in range(3)]
    found = match_many(space, copies, key=KEY)
    assert found.spread < 1e-6
    for copy, element, aligned in zip(
        copies, found.elements, found.aligned, strict=True
    ):
        np.testing.assert_allclose(
            space.flatten(aligned), space.flatten(found.mean), atol=1e-6
        )
        np.testing.assert_array_equal(
            space.flatten(space.permute(copy, element)), space.flatten(aligned)
        )
    # The mean is the network; that of the copies as they are is another.
    x = array([0.3, -1.0, 0.5])
    np.testing.assert_allclose(call(found.mean, x), call(model, x), atol=1e-5)
    naive = call(average(copies), x)
    assert np.abs(np.asarray(naive) - np.asarray(call(model, x))).max() > 1e-2


def test_rounds_bring_networks_closer(mlp):
    model, space = mlp
    random = np.random.default_rng(0)
    networks = []
    for seed in range(4):
        moved = act_on_network(space, model, draw_element(space, seed))
        networks.append(
            jax.tree.map(
                lambda x: (
                    x + array(0.4 * random.standard_normal(x.shape))
                    if eqx.is_array(x)
                    else x
                ),
                moved,
            )
        )
    found = match_many(space, networks, key=KEY)
    assert list(found.spreads) == sorted(found.spreads, reverse=True)
    assert found.spread == found.spreads[-1]
    with pytest.raises(ValueError, match="Two networks or more"):
        match_many(space, networks[:1], key=KEY)


# Activations.


def test_units_are_found_by_what_they_answer(mlp):
    model, _ = mlp
    batch = numbers(20, 3)
    space = wsl.infer_weight_space(_batched, model, batch)
    element = draw_element(space, 1)
    moved = act_on_network(space, model, element)
    # ReLU units do not mind how they are scaled, but a distance of weights does.
    scales = array([10.0, 0.1, 3.0, 0.3, 1.0])
    layers = lambda m: (m.layers[0].weight, m.layers[0].bias, m.layers[1].weight)
    moved = eqx.tree_at(
        layers,
        moved,
        (
            moved.layers[0].weight * scales[:, None],
            moved.layers[0].bias * scales,
            moved.layers[1].weight / scales[None],
        ),
    )
    match = match_activations(space, model, moved, batch, fn=_batched)
    expected = space.inverse(element)
    for group in space.groups:
        np.testing.assert_array_equal(match.element[group], expected[group])
    assert match.aligned.activation is model.activation
    with pytest.raises(ValueError, match="is not the one that"):
        match_activations(space.unfix("f0"), model, moved, batch, fn=_batched)


def test_strong_units_come_first():
    # Units answer u and u + 0.1 v in a, u and v in b: both of a are likest to u, and by
    # correlations alone the first gets it, as 1 + 0.1 > 0.995. The strong one shall.
    t = np.arange(8.0)
    u, v = np.where(t % 2, 1.0, -1.0), np.where(t % 4 < 2, 1.0, -1.0)
    fn = lambda w, x: jnp.abs(x @ w["w"]).sum(1)
    x = array(np.stack([u, v], 1))
    b = {"w": array([[1.0, 0.0], [0.0, 1.0]])}
    for weak, strong, expected in ((0.1, 10.0, [1, 0]), (10.0, 0.1, [0, 1])):
        a = {"w": array([[weak, strong], [0.0, 0.1 * strong]])}
        space = wsl.infer_weight_space(fn, a, x)
        match = match_activations(space, a, b, x, fn=fn)
        assert match.element["g0"].tolist() == expected


def test_heads_and_what_is_in_them_are_found_by_what_they_answer():
    def attention(w, x):
        q, k, v = ((x @ w[name]).reshape(len(x), 2, 3) for name in "qkv")
        scores = jax.nn.softmax(jnp.einsum("thd,shd->hts", q, k), axis=-1)
        return jnp.einsum("hts,shd->thd", scores, v).reshape(len(x), -1) @ w["o"]

    weights = draw({**{n: numbers(4, 6) for n in "qkv"}, "o": numbers(6, 4)})
    x = numbers(9, 4)
    space = wsl.infer_weight_space(attention, weights, x)
    assert len(space.nested) == 2
    moved = space.permute(weights, draw_element(space, 3))
    match = match_activations(space, weights, moved, x, fn=attention)
    assert match.distance_before > 1
    assert match.distance < 1e-6


def test_sums_are_found_by_what_they_answer():
    def critic(w, x):
        h = jnp.concatenate([jnp.tanh(x @ w["a"]), x[:, :2]], axis=1)
        return jnp.tanh(h @ w["b"]) @ w["o"]

    weights = draw({"a": numbers(3, 4), "b": numbers(6, 3), "o": numbers(3, 1)})
    x = numbers(12, 3)
    space = wsl.infer_weight_space(critic, weights, x)
    moved = space.permute(weights, draw_element(space, 2))
    match = match_activations(space, weights, moved, x, fn=critic)
    assert match.distance_before > 0.5
    assert match.distance < 1e-6


# The line.


def test_points_on_the_line():
    a = {"w": array([0.0, 2.0]), "name": "a", "n": jnp.array(3)}
    b = {"w": array([4.0, 0.0]), "name": "b", "n": jnp.array(5)}
    quarter = interpolate(a, b, 0.25)
    np.testing.assert_allclose(quarter["w"], [1.0, 1.5])
    assert quarter["name"] == "a" and quarter["n"] == 3
    mean = average([a, b, b], [2.0, 1.0, 1.0])
    np.testing.assert_allclose(mean["w"], [2.0, 1.0])
    with pytest.raises(ValueError, match="share for each"):
        average([a, b], [1.0])
    with pytest.raises(ValueError, match="Network 1 has other leaves"):
        average([a, {"w": array([1.0])}])


def test_height_of_a_barrier():
    # Between -1 and 1 the loss is 0 at both ends and 1 in the middle; with a slope of
    # 0.5 from end to end the chord is taken off.
    loss = lambda w: (1.0 - w**2) ** 2 + 0.25 * w
    found = barrier(loss, array(-1.0), array(1.0), num_points=5)
    assert found.ts == (0.0, 0.25, 0.5, 0.75, 1.0)
    np.testing.assert_allclose(found.losses[0], -0.25)
    assert found.height == pytest.approx(1.0)
    assert barrier(lambda w: w**2, array(-1.0), array(1.0)).height == 0
    fixed = barrier(loss, array(-1.0), array(1.0), adjust=lambda w: array(1.0))
    assert fixed.losses[5] == pytest.approx(0.25)
    with pytest.raises(ValueError, match="three points"):
        barrier(loss, array(-1.0), array(1.0), num_points=2)


# Statistics.


def _update(network, batch):
    mean = 0.9 * network["mean"] + 0.1 * batch.mean(0)
    return {**network, "mean": mean, "steps": network["steps"] + 1}


def test_statistics_are_those_of_the_data():
    network = {"w": array([3.0]), "mean": array([50.0, -7.0]), "steps": jnp.array(4)}
    batches = [array([[1.0, 2.0], [3.0, 4.0]]), array([[5.0, 6.0]])]
    found = reset_statistics(network, _update, *batches)
    # The means are (2, 3) and (5, 6).
    np.testing.assert_allclose(found["mean"], [3.5, 4.5], rtol=1e-4)
    assert found["w"] == 3 and found["steps"] == 4
    with pytest.raises(ValueError, match="no batches"):
        reset_statistics(network, _update)
    with pytest.raises(ValueError, match="changes no floating-point array"):
        reset_statistics(network, lambda n, b: n, batches[0])
    with pytest.raises(ValueError, match=r"Leaf \"\['w'\]\" is no moving average"):
        reset_statistics(
            network, lambda n, b: {**_update(n, b), "w": n["w"] * 2.0}, batches[0]
        )
