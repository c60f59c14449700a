"""One sweep through the network, and the phases of sines."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

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
    keys = jr.split(key, len(leaves))
    noisy = [x + 0.3 * jr.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return eqx.combine(jax.tree.unflatten(treedef, noisy), rest)


@pytest.mark.parametrize("inputs", [1, 2])
def test_with_its_own_activation_a_sweep_is_the_network_at_learned_inputs(
    inputs, getkey
):
    network, space, phases = _sines(getkey(), inputs=inputs)
    sweep = ForwardSweep(
        ScaleSymmetry.from_space(space, "sign"), 1, 5, activation=jnp.sin, key=getkey()
    )
    (result,) = sweep(phases(lift(space, network))).values()
    if inputs == 1:
        points = sweep.vectors[".layers[0].weight"]
    else:
        (points,) = sweep.embeddings.values()
    assert points.shape == (inputs, 5)
    expected = jax.vmap(network, in_axes=1, out_axes=1)(points)
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
    np.testing.assert_allclose(sweep(lift(space, weights))["y"], [[300.0]])


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
    check_invariance(sweep, space, key=getkey())
    weights = jax.tree.map(
        lambda x: jr.normal(getkey(), x.shape),
        jax.tree.unflatten(space.treedef, [jnp.zeros(x.shape) for x in space.leaves]),
    )
    rescaled = symmetry.act(weights, symmetry.sample(key=getkey(), largest=3.0))
    before, after = sweep(lift(space, weights)), sweep(lift(space, rescaled))
    for place, x in before.items():
        np.testing.assert_allclose(after[place], x, rtol=1e-3, atol=1e-4)
    # A control: the wrong multipliers, of one leaf only are seen.
    first = "w0" if space is MLP else "u"
    broken = weights | {first: -2.0 * weights[first]}
    changed = sweep(lift(space, broken))
    assert any(float(jnp.abs(changed[p] - x).max()) > MOVED for p, x in before.items())


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

        gradient = eqx.filter_grad(loss)(sweep)
        for leaf in jax.tree.leaves(gradient):
            assert jnp.all(jnp.isfinite(leaf)) and jnp.any(leaf != 0)


def test_phases_keep_the_function_and_forget_shifts(getkey):
    network, space, phases = _sines(getkey())
    network = _set(network, 0, bias=jnp.array([1.3, -2.0, 0.1, 0.4]))
    canonical = eqx.combine(lower(space, phases(lift(space, network))), network)
    plain = _Sines((2, 4, 3, 2), (1.0, 1.0), key=getkey())
    plain = eqx.tree_at(lambda n: n.layers, plain, canonical.layers)
    points = jr.normal(getkey(), (7, 2))
    np.testing.assert_allclose(
        jax.vmap(plain)(points), jax.vmap(network)(points), atol=1e-5
    )
    for layer in (0, 1):
        assert jnp.all(jnp.abs(plain.layers[layer].bias) <= jnp.pi / 2 + 1e-6)

    # Phases of the first layer moved by m pi, and the signs that go with it.
    turns = jnp.array([1.0, -2.0, 3.0, 0.0])
    signs = jnp.array([-1.0, 1.0, -1.0, 1.0])
    shifted = _set(network, 0, bias=network.layers[0].bias + turns * jnp.pi / 5.0)
    mended = _set(shifted, 1, weight=shifted.layers[1].weight * signs[None])
    np.testing.assert_allclose(
        jax.vmap(mended)(points), jax.vmap(network)(points), atol=1e-5
    )
    of_network, of_mended = (
        jax.tree.leaves(phases(lift(space, n))) for n in (network, mended)
    )
    for a, b in zip(of_network, of_mended, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # A control: without the signs it is another network.
    others = jax.tree.leaves(phases(lift(space, shifted)))
    gaps = [jnp.abs(a - b).max() for a, b in zip(of_network, others, strict=True)]
    assert max(gaps) > 0.1


def test_phases_commute_with_permutations_and_signs(getkey):
    network, space, phases = _sines(getkey(), outputs=1)
    symmetry = ScaleSymmetry.from_space(space, "sign")
    weights = eqx.filter(network, eqx.is_array)
    element, signs = space.sample(key=getkey()), symmetry.sample(key=getkey())
    moved = phases(lift(space, symmetry.act(space.permute(weights, element), signs)))
    expected = symmetry.act_on_features(
        space.permute_features(phases(lift(space, weights)), element), signs
    )
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
