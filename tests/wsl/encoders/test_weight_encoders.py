"""Learned encoders that read weights: invariant, alive, and of the form promised."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import assume, given, strategies as st

import wsl
from tests.helpers import examples, nightly
from tests.wsl.helpers import act_on_network, array, call, draw_element, draw_network
from tests.wsl.nn.helpers import NESTED, RECURRENT, SMALL, without_type_checks
from wsl import WeightSpace
from wsl.encoders import (
    AbstractEncoder,
    count_flops,
    Equivariant,
    Flat,
    Graph,
    ScaleEquivariantGraph,
    Transformer,
)
from wsl.nn import (
    GaussianFourierFeatures,
    IndexEncoding,
    lift,
    lower,
    ScaleEncoding,
    ScaleSymmetry,
    SignedLog,
    Standardize,
)
from wsl.testing import architectures, check_invariance, group_elements, weights


_SAME, _MOVED = 2e-5, 1e-3
# The scale-equivariant encoder's vectors start out small: about 0.1.
_SCALE_SAME, _SCALE_MOVED = 2e-6, 1e-4
_OPTIONS = {"channels": 4, "num_layers": 1, "key": jr.key(0)}
# One hidden layer, with named inputs and outputs.
_SPACE = WeightSpace.from_spec(
    {
        name: jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, shape in {"b0": (4,), "b1": (2,), "w0": (4, 3), "w1": (2, 4)}.items()
    },
    {
        "['b0']": ("h",),
        "['b1']": ("out",),
        "['w0']": ("h", "in"),
        "['w1']": ("out", "h"),
    },
    fixed=["in", "out"],
)


def _scale(space, num_features, **options):
    symmetry = ScaleSymmetry.from_space(space, "scale")
    return ScaleEquivariantGraph(symmetry, num_features, **options)


_KINDS = {
    "equivariant": Equivariant,
    "transformer": Transformer,
    "graph": Graph,
    "scale": _scale,
}


@functools.cache
def _make(kind, space=_SPACE, num_features=6, **options):
    # Norms come with the second layer.
    depth = {"num_layers": 2} if kind == "equivariant" else {}
    return _KINDS[kind](space, num_features, **{**_OPTIONS, **depth, **options})


def _distance(encoder, a, b):
    gap = np.asarray(call(encoder, a)) - np.asarray(call(encoder, b))
    return float(np.abs(gap).max())


def _draw(space=_SPACE, seed=0):
    random = np.random.default_rng(seed)
    leaves = [array(random.standard_normal(x.shape)) for x in space.leaves]
    return jax.tree.unflatten(space.treedef, leaves)


def _moved_by_most(encoder, space=_SPACE):
    """How far a permutation moves the vector; the greatest of several."""
    network = _draw(space)
    elements = [draw_element(space, seed) for seed in range(4)]
    moved = [act_on_network(space, network, element) for element in elements]
    return max(_distance(encoder, network, other) for other in moved)


@pytest.mark.parametrize(
    ("kind", "space"),
    [("equivariant", RECURRENT), ("transformer", SMALL), ("graph", NESTED)],
)
def test_invariant_whatever_the_parameters(kind, space):
    encoder = _make(kind, space)
    # The encoder's arrays are arguments, which the check adds noise to.
    on_features = eqx.Partial(lambda e, x: e(lower(space, x)), encoder)
    check_invariance(on_features, space, key=jr.key(1), num_samples=1)


@pytest.mark.nightly
@examples(3)
@given(
    st.sampled_from(["equivariant", "graph"]),
    architectures(["mlp", "residual", "gru"]),
    st.data(),
)
def test_invariant_on_networks(kind, architecture, data):
    _, model, _, space = architecture
    assume(any(n > 1 for n in space.groups.values()))
    encoder = _KINDS[kind](space, 3, **_OPTIONS)
    permuted = space.permute(model, data.draw(group_elements(space)))
    assert call(encoder, model).shape == (3,)
    assert _distance(encoder, model, permuted) < _SAME


@examples(25)
@given(st.sampled_from([*_KINDS, "flat"]), weights(_SPACE), group_elements(_SPACE))
def test_invariant_as_declared(kind, network, element):
    encoder = Flat(_SPACE) if kind == "flat" else _make(kind)
    assert isinstance(encoder, AbstractEncoder)
    permuted = act_on_network(_SPACE, network, element)
    moved = _distance(encoder, permuted, network)
    assert encoder.is_invariant == (kind != "flat")
    if encoder.is_invariant:
        assert moved < _SAME * (1 + np.abs(call(encoder, network)).max())
    else:  # Control: the weights did move.
        gaps = jax.tree.map(
            lambda a, b: np.abs(a - np.asarray(b)).max(), permuted, network
        )
        assert moved == max(gaps.values())


# Controls: what the group does not do is seen.


@pytest.mark.parametrize("kind", _KINDS)
def test_other_networks_get_other_vectors(kind):
    encoder, network = _make(kind), jax.tree.map(np.asarray, _draw())
    least = _SCALE_MOVED if kind == "scale" else _MOVED

    def moved(**changed):
        return _distance(encoder, network, network | changed)

    b0, b1, w0, w1 = network.values()
    # One leaf permuted without the others.
    assert moved(w1=w1[:, ::-1]) > least
    assert moved(b0=b0[::-1]) > least
    # Inputs, and outputs.
    assert moved(w0=w0[:, ::-1]) > least
    assert moved(w1=w1[::-1], b1=b1[::-1]) > least
    # No norm hides a leaf's size.
    for name, leaf in network.items():
        assert moved(**{name: 3 * leaf}) > least, name
    assert moved(**{name: 3 * leaf for name, leaf in network.items()}) > least


def test_a_constant_for_each_unit_breaks_it():
    assert _moved_by_most(_make("equivariant")) < _SAME
    position = array(np.arange(4)[:, None])
    broken = _make("equivariant", transform=lambda x: x | {"b0": x["b0"] + position})
    assert _moved_by_most(broken) > _MOVED


@pytest.mark.parametrize("kind", ["equivariant", "transformer"])
def test_released_names_share_coefficients(kind):
    sizes = [
        sum(x.size for x in jax.tree.leaves(eqx.filter(encoder, eqx.is_array)))
        for encoder in (_make(kind, release=("in", "out")), _make(kind))
    ]
    assert sizes[0] < 0.7 * sizes[1]


def test_released_inputs_and_outputs_are_told_apart():
    encoder = _make("equivariant", release=("in", "out"))
    network = jax.tree.map(np.asarray, _draw())
    swapped = network | {"w0": network["w0"][:, ::-1]}
    outputs = network | {"w1": network["w1"][::-1], "b1": network["b1"][::-1]}
    # Encodings start small, so look at them enlarged.
    encoding = lambda e: [
        x.tables for x in e.layers.layers if isinstance(x, IndexEncoding)
    ]
    larger = eqx.tree_at(
        encoding,
        encoder,
        jax.tree.map(lambda t: array(30 * np.asarray(t)), encoding(encoder)),
    )
    assert _moved_by_most(larger) < _SAME
    assert _distance(larger, network, swapped) > _MOVED
    assert _distance(larger, network, outputs) > _MOVED
    # Control: without them all inputs are alike, and all outputs.
    blind = _make("equivariant", _SPACE.unfix("in", "out"))
    assert _distance(blind, network, swapped) < _SAME
    assert _distance(blind, network, outputs) < _SAME


@pytest.mark.parametrize(("kind", "bidirectional"), [("sign", True), ("scale", False)])
def test_scale_symmetry(kind, bidirectional):
    symmetry = ScaleSymmetry.from_space(_SPACE, kind)
    encoder = ScaleEquivariantGraph(
        symmetry, 6, bidirectional=bidirectional, **_OPTIONS
    )
    network = _draw()
    rescale = jax.jit(lambda n, key: symmetry.act(n, symmetry.sample(key=key)))
    for seed in range(3):
        permuted = act_on_network(_SPACE, network, draw_element(_SPACE, seed))
        rescaled = rescale(permuted, jr.key(seed))
        assert _distance(encoder, network, rescaled) < _SCALE_SAME

    # Controls: one leaf alone, and multipliers of the other kind.
    def act(incoming, outgoing):
        factors = {"b0": incoming, "b1": 1, "w0": incoming, "w1": outgoing}
        return {
            name: array(x * np.asarray(network[name])) for name, x in factors.items()
        }

    assert _distance(encoder, network, act(1, -1)) > _SCALE_MOVED
    other = act(2, 0.5) if kind == "sign" else act(-1, -1)
    assert _distance(encoder, network, other) > _SCALE_MOVED


def test_odd_transforms_keep_sign_symmetry():
    symmetry, network = ScaleSymmetry.from_space(_SPACE, "sign"), _draw()
    odd = [SignedLog(), ScaleEncoding(_SPACE, 1, key=jr.key(0))]
    encoder = ScaleEquivariantGraph(
        symmetry, 6, transform=eqx.nn.Sequential(odd), **_OPTIONS
    )
    flip = jax.jit(lambda n: symmetry.act(n, symmetry.sample(key=jr.key(0))))
    flipped = flip(network)
    assert _distance(encoder, network, flipped) < _SCALE_SAME
    # Control: one leaf alone.
    other = flipped | {"w1": network["w1"]}
    assert _distance(encoder, network, other) > _SCALE_MOVED


# Form.


# Parameters that every weight goes through. Some states of graphs are read by nothing:
# those of the whole graph, where no weight is a scalar.
_ALIVE = {
    "equivariant": (".layers", ".readout"),
    "transformer": (".layers", ".readout"),
    "graph": (".layers.lift.weights", ".layers.lower.weights", ".readout"),
    "scale": (".embed.weights", ".pool.head.last"),
}


@pytest.mark.parametrize("kind", nightly(_KINDS, ["scale", "transformer"]))
def test_jit_vmap_and_gradients(kind):
    encoder, networks = _make(kind), [_draw(seed=seed) for seed in range(3)]
    assert encoder.num_features == 6
    assert encoder.num_reads == _SPACE.size == 4 + 2 + 12 + 8
    batch = jax.tree.map(lambda a, b, c: array(np.stack([a, b, 0 * c])), *networks)
    # Every weight of every network goes through a matrix, at least once.
    assert count_flops(encoder, networks[0]) > 2 * _SPACE.size * 4

    def loss(both):
        vectors = eqx.filter_vmap(both[0])(both[1])
        return jnp.sum(jnp.sin(vectors)), vectors

    # With a network of zeros in the batch.
    (of_encoder, of_weights), vectors = eqx.filter_jit(
        eqx.filter_grad(loss, has_aux=True)
    )((encoder, batch))
    assert vectors.shape == (3, 6)
    for vector, network in zip(np.asarray(vectors)[:2], networks, strict=False):
        np.testing.assert_allclose(vector, call(encoder, network), atol=1e-5)
    with_paths, _ = jax.tree_util.tree_flatten_with_path(of_encoder)
    names = {jax.tree_util.keystr(path): x for path, x in with_paths}
    assert names and all(np.isfinite(x).all() for x in names.values())
    for name, x in names.items():
        if name.startswith(_ALIVE[kind]):
            assert np.abs(x).max() > 0, name
    for x in jax.tree.leaves(of_weights):
        assert np.isfinite(x).all() and np.abs(np.asarray(x)[:2]).max() > 0


def test_half_precision_and_whole_models():
    make = functools.partial(eqx.nn.MLP, 3, 2, 4, 1, jax.nn.tanh)
    mlp = draw_network(eqx.filter_eval_shape(make, key=jr.key(0)))
    space = wsl.infer_weight_space(mlp, jnp.zeros(3))
    halve = lambda x: array(x, jnp.bfloat16) if eqx.is_array(x) else x
    encoder = _make("equivariant", space, num_layers=1)
    assert _distance(encoder, mlp, eqx.filter(mlp, eqx.is_array)) == 0
    half = jax.tree.map(halve, mlp)
    assert eqx.filter_eval_shape(encoder, half).dtype == jnp.float32
    assert _distance(encoder, mlp, half) < 0.1


def test_transforms_in_a_row():
    drawn = [_draw(seed=i) for i in range(4)]
    batch = jax.tree.map(lambda *x: array(np.stack(x)), *drawn)
    features = jax.jit(jax.vmap(functools.partial(lift, _SPACE)))(batch)
    transform = eqx.nn.Sequential(
        [
            SignedLog(),
            call(Standardize.fit, _SPACE, call(SignedLog(), features)),
            GaussianFourierFeatures(1, 3, 0.3, key=jr.key(0)),
        ]
    )
    encoder = Equivariant(_SPACE, 2, transform=transform, **_OPTIONS)
    assert _moved_by_most(encoder) < _SAME
    assert _distance(encoder, _draw(), _draw(seed=1)) > _MOVED


@pytest.mark.parametrize(
    ("basis", "reduction"), [("near-neighbour", "max"), ("layer-tied", "attention")]
)
def test_options(basis, reduction):
    encoder = _make("equivariant", num_layers=1, basis=basis, reduction=reduction)
    assert _moved_by_most(encoder) < _SAME
    assert _distance(encoder, _draw(), _draw(seed=1)) > _MOVED


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("name", ["num_features", "channels", "num_layers"])
def test_numbers_are_positive(kind, name):
    arguments = {"num_features": 2, **_OPTIONS, name: 0}
    with pytest.raises(ValueError, match=f"must be positive; `{name}` is 0"):
        _KINDS[kind](_SPACE, **arguments)


def test_what_else_is_refused():
    with pytest.raises(ValueError, match="'h' is not fixed in this space"):
        Equivariant(_SPACE, 2, release=["h"], **_OPTIONS)
    with pytest.raises(ValueError, match="4 channels cannot be divided into 3 heads"):
        Transformer(_SPACE, 2, num_heads=3, **_OPTIONS)
    with without_type_checks():
        with pytest.raises(ValueError, match="There is no basis 'wide'"):
            _make("equivariant", basis="wide")
        with pytest.raises(ValueError, match="`aggregation` must be"):
            _make("graph", aggregation="max")
    batch = jax.tree.map(lambda x: array(np.asarray(x)[None]), _draw())
    for kind in _KINDS:
        with pytest.raises(ValueError, match="A batch goes through"):
            _make(kind)(batch)
    with pytest.raises(ValueError, match="`transform` must take weight features of"):
        Graph(_SPACE, 2, transform=lambda x: x["b0"], **_OPTIONS)
