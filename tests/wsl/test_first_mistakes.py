"""What is given by mistake is refused with a message that says what to do."""

import copy
import pickle
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import wsl
from tests.wsl.helpers import array, call
from tests.wsl.nn.helpers import without_type_checks as unchecked
from wsl.nn._channels import per_leaf


KEY = jr.key(0)


@pytest.fixture(scope="module")
def model():
    return eqx.nn.MLP(3, 2, 4, 1, key=KEY)


@pytest.fixture(scope="module")
def space(model):
    return wsl.infer_weight_space(model, array(np.ones(3)))


def test_a_wrong_size_of_an_input_names_the_leaf_and_the_input(model):
    with pytest.raises(ValueError) as caught:
        wsl.infer_weight_space(model, jnp.ones(5))
    assert "weights.layers[0].weight has shape (4, 3)" in str(caught.value)
    assert "input 0 has shape (5,)" in str(caught.value)
    # The right one is not blamed.
    with pytest.raises(ValueError) as caught:
        wsl.infer_weight_space(
            lambda w, x, y: w @ x, jnp.ones((2, 3)), jnp.ones(4), jnp.ones(7)
        )
    assert "input 0 has shape (4,)" in str(caught.value)
    assert "(7,)" not in str(caught.value)


def test_channels_of_a_wrong_type(space):
    mistakes: list[Any] = [1.5, "a", None, True, {".layers[0].weight": 2.0}]
    for wrong in mistakes:
        with unchecked(), pytest.raises(ValueError, match="a whole number"):
            per_leaf(space, wrong)


def test_a_model_in_the_place_of_a_space(model, space):
    with unchecked():
        for make in (
            lambda: wsl.nn.EquivariantLinear(model, 1, 1, key=KEY),
            lambda: wsl.nn.lift(model, model),
            lambda: wsl.match_weights(model, model, model, key=KEY),
            lambda: wsl.verify_symmetry(model, model, jnp.ones(3), key=KEY),
            lambda: wsl.encoders.Flat(model),
            lambda: wsl.encoders.Equivariant(model, 4, key=KEY),
            lambda: wsl.encoders.Statistics(model),
            lambda: wsl.encoders.Transformer(model, 4, key=KEY),
            lambda: wsl.encoders.Graph(model, 4, key=KEY),
            lambda: wsl.matching.soft_match(model, model, model, key=KEY),
        ):
            with pytest.raises(
                ValueError, match="Expected a `wsl.WeightSpace`; got MLP"
            ):
                make()


def test_a_generator_wants_an_initialiser_and_arrays(model):
    with unchecked():
        mistakes: list[Any] = [model, 3.0, {"w": jnp.ones(2)}]
        for wrong in mistakes:
            with pytest.raises(ValueError, match="a function from a key to a network"):
                wsl.generators.MLPHyperNetwork(wrong, 1, key=KEY)
        generator = wsl.generators.MLPHyperNetwork(
            lambda key: {"w": jr.uniform(key, (2,))}, 1, width=4, key=KEY
        )
        with pytest.raises(ValueError, match=r"array of shape \(1,\); got float: 0.5"):
            generator(0.5)  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match=r"takes \(1,\)"):
            generator(jnp.ones(2))


def test_unflatten_gives_a_model_back(model, space):
    x = array([1.0, -2.0, 0.5])
    again = space.unflatten(space.flatten(model), like=model)
    np.testing.assert_array_equal(call(again, x), call(model, x))
    assert again.activation is model.activation
    # Without it, there are only weights.
    assert space.unflatten(space.flatten(model)).activation is None


def test_a_function_that_returns_nothing(model):
    with pytest.raises(ValueError, match="returns no arrays"):
        wsl.infer_weight_space(lambda model, x: None, model, jnp.ones(3))


def test_weights_that_are_no_real_numbers(model):
    integers = eqx.nn.Linear(2, 2, key=KEY, dtype=jnp.float32)
    integers = jax.tree.map(lambda x: jnp.ones(x.shape, jnp.int32), integers)
    with pytest.raises(ValueError, match="Linear have dtype int32"):
        wsl.infer_weight_space(integers, jnp.ones(2))
    with pytest.raises(ValueError, match="is a class"):
        wsl.infer_weight_space(eqx.nn.MLP, jnp.ones(2))


def test_weights_that_are_not_finite(model, space):
    broken = eqx.tree_at(lambda m: m.layers[1].bias, model, array([np.nan, 0.0]))
    report = wsl.verify_symmetry(space, broken, jnp.ones(3), key=KEY, num_samples=1)
    assert not report.holds
    assert "leaf .layers[1].bias of the weights has numbers that are not finite" in (
        report.verdict
    )


def test_encoders_say_what_to_do_with_many_networks(model, space):
    networks = [model, model, model]
    stacked = wsl.stack(networks)
    flat = wsl.encoders.Flat(space)
    with pytest.raises(ValueError, match=r"list of 3 networks.*wsl\.stack"):
        flat(networks)
    with pytest.raises(ValueError, match=r"3 networks of the space, stacked.*vmap"):
        flat(stacked)
    statistics = wsl.encoders.Statistics(space)
    with pytest.raises(ValueError, match=r"3 networks of the space, stacked.*vmap"):
        statistics(stacked)
    probing = wsl.encoders.Probing(3, 2, 2, key=KEY)
    with pytest.raises(ValueError, match=r"list of 3 networks.*wsl\.stack"):
        probing(networks)
    with pytest.raises(ValueError, match="go over the stack by"):
        probing(stacked)
    assert eqx.filter_vmap(flat)(stacked).shape == (3, space.size)


def test_copies_are_equal_and_work(model, space):
    weights = wsl.nn.lift(space, model)
    layer = wsl.nn.EquivariantLinear(space, 1, 2, key=KEY)
    encoder = wsl.encoders.Equivariant(space, 3, channels=2, num_layers=1, key=KEY)
    for thing, given in ((layer, weights), (encoder, model)):
        expected = jax.tree.leaves(call(thing, given))
        copied = copy.deepcopy(thing)
        assert jax.tree.structure(copied) == jax.tree.structure(thing)
        for new, old in zip(
            jax.tree.leaves(call(copied, given)), expected, strict=True
        ):
            np.testing.assert_array_equal(new, old)
    again = pickle.loads(pickle.dumps(layer))
    assert jax.tree.structure(again) == jax.tree.structure(layer)
    assert again.space == space
