"""What critics are shown: observed states, z in place of weights, unit spreads."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import make
from applications.policies import FlatView, MLPPolicy
from applications.settings import UserError
from applications.values import (
    bounded_answer,
    check_representation,
    EncoderOptions,
    make_encoder,
    surrounded,
    Surroundings,
)
from wsl.encoders import Concatenated, EncodedMLP


_TASK = make("cartpole")
_VIEW = FlatView(MLPPolicy(_TASK, (3,), key=jr.key(0)))
_SIZE = _VIEW.space.size
_CENTRE = jr.normal(jr.key(1), (_SIZE,))
_FRESH = _CENTRE[None] + 0.2 * jr.normal(jr.key(2), (64, _SIZE))
_KNOWN = 3 * jr.normal(jr.key(3), (40, _SIZE))
_STATES = jr.normal(jr.key(4), (5, 4))


def _surroundings() -> Surroundings:
    policies = jax.vmap(_VIEW.to_policy)
    return Surroundings(
        centre=_VIEW.to_policy(_CENTRE),
        noise_scale=jnp.asarray(0.2),
        weight_mean=_VIEW.to_policy(jnp.mean(_KNOWN, axis=0)),
        weight_std=_VIEW.to_policy(jnp.std(_KNOWN, axis=0)),
        fresh=policies(_FRESH),
        known=policies(_KNOWN),
        states=_STATES,
    )


def _encoder(name, **options):
    options = EncoderOptions(**({"states": 5, "probes": 5, "bounded": True} | options))
    encoder = make_encoder(name, _TASK, _VIEW.like, options, key=jr.key(5))
    return surrounded(encoder, _surroundings())


def test_answers_are_probabilities_in_the_states():
    policy = _VIEW.to_policy(_FRESH[0])
    expected = np.concatenate([jax.nn.softmax(policy(state)) for state in _STATES])
    np.testing.assert_allclose(_encoder("answers")(policy), expected, rtol=1e-5)
    raw = _encoder("answers", bounded=False)(policy)
    np.testing.assert_allclose(raw, np.ravel(jax.vmap(policy)(_STATES)), rtol=1e-5)
    # Continuous actions are bounded as they are.
    box = bounded_answer(make("lqr"))
    np.testing.assert_array_equal(box(jnp.array([7.0])), [7.0])


def test_weights_are_shown_as_z():
    weights = _VIEW.to_vector(_VIEW.to_policy(_FRESH[3]))
    by_noise = _encoder("flat", inputs="noise")(_VIEW.to_policy(_FRESH[3]))
    np.testing.assert_allclose(by_noise, (weights - _CENTRE) / 0.2, rtol=1e-4)
    mean, std = np.mean(_KNOWN, axis=0), np.std(_KNOWN, axis=0)
    by_archive = _encoder("flat", inputs="archive")(_VIEW.to_policy(_FRESH[3]))
    np.testing.assert_allclose(by_archive, (weights - mean) / std, rtol=1e-4)
    raw = _encoder("flat")(_VIEW.to_policy(_FRESH[3]))
    np.testing.assert_array_equal(raw, weights)


@pytest.mark.parametrize("name", ["answers", "probing"])
@pytest.mark.parametrize("inputs, others", [("noise", _FRESH), ("archive", _KNOWN)])
def test_answers_have_unit_spread(name, inputs, others):
    encoder = _encoder(name, inputs=inputs)
    read = jax.vmap(lambda weights: encoder(_VIEW.to_policy(weights)))(others)
    np.testing.assert_allclose(np.mean(np.square(read)), 1, rtol=1e-4)
    if inputs == "noise":
        np.testing.assert_allclose(encoder(_VIEW.to_policy(_CENTRE)), 0, atol=1e-5)
    else:
        np.testing.assert_allclose(np.mean(read, axis=0), 0, atol=1e-5)
    # Negative control: without, they have another one.
    plain = _encoder(name)
    raw = jax.vmap(lambda weights: plain(_VIEW.to_policy(weights)))(others)
    assert abs(np.mean(np.square(raw)) - 1) > 0.1


def test_nothing_is_learned_but_what_is_to_be_learned():
    """States, centres and scales have no gradient; learned probes and weights do."""
    encoder = _encoder("answers+probing+equivariant", inputs="noise", features=4)
    assert isinstance(encoder, Concatenated)
    value = EncodedMLP(encoder, (), "scalar", 4, 1, key=jr.key(0))
    say = lambda value: value(_VIEW.to_policy(_FRESH[0]))
    gradient = eqx.filter_jit(eqx.filter_grad(say))(value)
    answers, probing, equivariant = gradient.encoder.encoders
    largest = lambda tree: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(tree))
    assert largest(answers) == 0
    assert largest((probing.centre, probing.scale)) == 0
    assert largest((equivariant.centre, equivariant.scale)) == 0
    assert largest(probing.encoder.probes) > 0
    assert largest(eqx.filter(equivariant.encoder, eqx.is_inexact_array)) > 0


def test_names():
    check_representation("answers+flat", observes=True)
    with pytest.raises(UserError, match="no representation 'answers'"):
        check_representation("flat+answers")
    with pytest.raises(UserError, match="no representation 'flatt'"):
        check_representation("answers+flatt", observes=True)
