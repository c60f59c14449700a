"""One sweep through the network, and the phases of sines."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tests.wsl.helpers import array, call, draw_element, draw_weights
from tests.wsl.nn.helpers import MLP, MOVED, RECURRENT, SAME
from wsl import infer_weight_space, WeightSpace
from wsl.nn import ForwardSweep, lift, lower, ScaleKind, ScaleSymmetry, SinePhases
from wsl.testing import check_invariance


class _Sines(eqx.Module):
    """Two hidden layers of sines, two inputs and two outputs."""

    layers: tuple[eqx.nn.Linear, ...]
    frequencies: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, sizes, frequencies, *, key):
        self.layers = tuple(
            eqx.nn.Linear(n, m, key=k)
            for n, m, k in zip(
                sizes[:-1], sizes[1:], jr.split(key, len(sizes) - 1), strict=True
            )
        )
        self.frequencies = frequencies

    def __call__(self, x):
        for layer, frequency in zip(self.layers[:-1], self.frequencies, strict=True):
            x = jnp.sin(frequency * layer(x))
        return self.layers[-1](x)


def _sines(key, inputs=2, outputs=2, frequencies=(5.0, 3.0)):
    network = _Sines((inputs, 4, 3, outputs), frequencies, key=key)
    space = infer_weight_space(network, jnp.zeros(inputs))
    frequencies = dict(zip(space.groups, frequencies, strict=True))
    return network, space, SinePhases(space, frequencies)


def _set(network, layer, *, weight=None, bias=None):
    def where(n):
        return n.layers[layer].weight, n.layers[layer].bias

    old = where(network)
    new = (old[0] if weight is None else weight, old[1] if bias is None else bias)
    return eqx.tree_at(where, network, new)


def _randomised(layer, key):
    """All parameters away from where they start."""
    arrays, rest = eqx.partition(layer, eqx.is_inexact_array)
    leaves, treedef = jax.tree.flatten(arrays)
    random = np.random.default_rng(np.asarray(jr.key_data(key)))
    noisy = [array(x + 0.3 * random.standard_normal(x.shape)) for x in leaves]
    return eqx.combine(jax.tree.unflatten(treedef, noisy), rest)


@pytest.mark.parametrize("inputs", [1, 2])
def test_with_its_own_activation_a_sweep_is_the_network_at_learned_inputs(
    inputs, getkey
):
    network, space, phases = _sines(getkey(), inputs=inputs)
    sweep = ForwardSweep(
        ScaleSymmetry.from_space(space, "sign"), 1, 5, activation=jnp.sin, key=getkey()
    )
    run = lambda sweep, network: sweep(phases(lift(space, network)))
    (result,) = call(run, sweep, network).values()
    if inputs == 1:
        points = sweep.vectors[".layers[0].weight"]
    else:
        (points,) = sweep.embeddings.values()
    assert points.shape == (inputs, 5)
    expected = call(jax.vmap(network, in_axes=1, out_axes=1), points)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_sweep_by_hand(getkey):
    weights = {
        "b": jnp.array([1.0, -2.0]),
        "v": jnp.array([[3.0, -1.0]]),
        "w": jnp.array([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]]),
    }
    space = WeightSpace.from_spec(
        weights,
        {"['b']": ("h",), "['v']": ("y", "h"), "['w']": ("h", "x")},
        fixed=["x", "y"],
    )
    sweep = ForwardSweep(
        ScaleSymmetry.from_space(space, "scale"),
        1,
        1,
        activation=jax.nn.relu,
        order=["['w']", "['v']"],
        key=getkey(),
    )
    sweep = eqx.tree_at(
        lambda s: (
            s.embeddings["x"], s.mixing["['w']"], s.mixing["['v']"], s.vectors["['b']"]
        ),
        sweep,
        (
            jnp.array([[1.0], [2.0], [3.0]]),
            jnp.array([[[2.0]]]),
            jnp.array([[[5.0]]]),
            jnp.array([[10.0]]),
        ),
    )  # fmt: skip
    # Hidden: 2 (1 + 4) + 10 = 20 and relu(2 (2 - 3) - 20) = 0; out: 3 * 5 * 20.
    assert sweep.outputs == {"y": 1}
    np.testing.assert_allclose(call(sweep, lift(space, weights))["y"], [[300.0]])


def _sweep(sweep, space, weights):
    return sweep(lift(space, weights))


@pytest.mark.parametrize(
    "kind, activation",
    [
        ("none", jnp.cos),
        ("sign", jnp.tanh),
        ("scale", jax.nn.relu),
        ("none", None),
        ("sign", None),
        ("scale", None),
        ("nonzero", None),
    ],
)
@pytest.mark.parametrize("space", [MLP, RECURRENT], ids=["mlp", "recurrent"])
def test_sweep_ignores_permutations_and_multipliers(
    space, kind: ScaleKind, activation, getkey
):
    symmetry = ScaleSymmetry.from_space(space, kind)
    order = ["['w0']", "['w1']", "['w2']"] if space is MLP else None
    sweep = ForwardSweep(
        symmetry, 1, 3, activation=activation, order=order, key=getkey()
    )
    sweep = _randomised(sweep, getkey())
    check_invariance(sweep, space, key=getkey(), num_samples=1)
    weights = draw_weights(space, 0)
    rescaled = jax.jit(
        lambda key: symmetry.act(weights, symmetry.sample(key=key, largest=3.0))
    )(getkey())
    run = lambda weights: call(_sweep, sweep, space, weights)
    before, after = run(weights), run(rescaled)
    for place, x in before.items():
        np.testing.assert_allclose(after[place], x, rtol=1e-3, atol=1e-4)
    # A control: the wrong multipliers, of one leaf only are seen.
    first = "w0" if space is MLP else "u"
    changed = run(weights | {first: array(-2.0 * np.asarray(weights[first]))})
    assert any(
        np.abs(changed[p] - np.asarray(x)).max() > MOVED for p, x in before.items()
    )


def test_an_activation_must_commute_with_the_symmetry(getkey):
    cases: list[tuple[ScaleKind, Callable, str]] = [
        ("sign", jax.nn.relu, "odd"),
        ("scale", jnp.tanh, "homogeneous"),
        ("nonzero", jax.nn.relu, "odd"),
    ]
    for kind, activation, word in cases:
        symmetry = ScaleSymmetry.from_space(MLP, kind)
        with pytest.raises(ValueError, match=word):
            ForwardSweep(symmetry, 1, 2, activation=activation, key=getkey())


def test_the_order_is_checked(getkey):
    symmetry = ScaleSymmetry.from_space(MLP, "none")
    with pytest.raises(ValueError, match="must hold each"):
        ForwardSweep(symmetry, 1, 2, order=["['w0']"], key=getkey())
    with pytest.raises(ValueError, match="before any have arrived"):
        ForwardSweep(symmetry, 1, 2, order=["['w1']", "['w0']", "['w2']"], key=getkey())


def test_every_parameter_learns(getkey):
    network, space, phases = _sines(getkey())
    symmetry = ScaleSymmetry.from_space(space, "sign")
    for activation in (None, jnp.sin):
        sweep = ForwardSweep(symmetry, 1, 4, activation=activation, key=getkey())

        def loss(sweep):
            found = sweep(phases(lift(space, network)))
            return sum(jnp.sum(jnp.sin(x)) for x in found.values())

        gradient = eqx.filter_jit(eqx.filter_grad(loss))(sweep)
        for leaf in jax.tree.leaves(gradient):
            assert np.isfinite(leaf).all() and np.any(leaf)


def _answers(network, points):
    return jax.vmap(network)(points)


def test_phases_keep_the_function_and_forget_shifts(getkey):
    network, space, phases = _sines(getkey())
    network = _set(network, 0, bias=jnp.array([1.3, -2.0, 0.1, 0.4]))
    canon = lambda network: call(lambda n: phases(lift(space, n)), network)
    canonical = eqx.combine(lower(space, canon(network)), network)
    plain = _Sines((2, 4, 3, 2), (1.0, 1.0), key=getkey())
    plain = eqx.tree_at(lambda n: n.layers, plain, canonical.layers)
    points = array(np.random.default_rng(0).standard_normal((7, 2)))
    answers = lambda network: call(_answers, network, points)
    np.testing.assert_allclose(answers(plain), answers(network), atol=1e-5)
    for layer in (0, 1):
        assert np.all(np.abs(plain.layers[layer].bias) <= np.pi / 2 + 1e-6)

    # Phases of the first layer moved by m pi, and the signs that go with it.
    turns = jnp.array([1.0, -2.0, 3.0, 0.0])
    signs = jnp.array([-1.0, 1.0, -1.0, 1.0])
    shifted = _set(network, 0, bias=network.layers[0].bias + turns * jnp.pi / 5.0)
    mended = _set(shifted, 1, weight=shifted.layers[1].weight * signs[None])
    np.testing.assert_allclose(answers(mended), answers(network), atol=1e-5)
    of_network, of_mended = (jax.tree.leaves(canon(n)) for n in (network, mended))
    for a, b in zip(of_network, of_mended, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # A control: without the signs it is another network.
    others = jax.tree.leaves(canon(shifted))
    gaps = [
        np.abs(a - np.asarray(b)).max() for a, b in zip(of_network, others, strict=True)
    ]
    assert max(gaps) > 0.1


def test_phases_commute_with_permutations_and_signs(getkey):
    network, space, phases = _sines(getkey(), outputs=1)
    symmetry = ScaleSymmetry.from_space(space, "sign")
    weights = eqx.filter(network, eqx.is_array)

    @jax.jit
    def both(weights, element, key):
        signs = symmetry.sample(key=key)
        moved = symmetry.act(space.permute(weights, element), signs)
        features = space.permute_features(phases(lift(space, weights)), element)
        return phases(lift(space, moved)), symmetry.act_on_features(features, signs)

    moved, expected = both(weights, draw_element(space, 0), getkey())
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=SAME)


def test_phases_say_what_is_wrong(getkey):
    _, space, _ = _sines(getkey())
    with pytest.raises(ValueError, match="not a group"):
        SinePhases(space, {"nobody": 1.0})
    with pytest.raises(ValueError, match="positive"):
        SinePhases(space, {"g0": 0.0})
    bare = WeightSpace.from_spec({"w": jnp.ones((3, 2))}, {"['w']": ("h", None)})
    with pytest.raises(ValueError, match="one bias"):
        SinePhases(bare, {"h": 1.0})
