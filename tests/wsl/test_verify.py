"""`verify_symmetry`: right specs hold, wrong ones are broken, and where."""

import dataclasses
import os

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given

import wsl
from tests.helpers import examples
from tests.wsl.helpers import chain_spec, draw_weights
from tests.wsl.nn.helpers import without_type_checks
from wsl import Factor, WeightSpace
from wsl.testing import architectures


_KEY = jax.random.key(0)

# All cases in both modes, where there is time.
_BOTH = os.environ.get("WSL_TEST_PROFILE", "fast") != "fast"


def _verify(*arguments, **options):
    report = wsl.verify_symmetry(*arguments, **options)
    if _BOTH:
        quick = wsl.verify_symmetry(*arguments, **options, mode="quick")
        assert quick.verdict == report.verdict
    return report


@examples(20)
@given(architectures(("mlp", "perceptron", "residual", "gru", "lstm")), st.data())
def test_one_wrong_leaf_is_found(architecture, data):
    """One leaf that stays behind, of a group that moves three or more."""
    _, model, inputs, space = architecture
    leaves = {
        (group, i)
        for group, size in space.groups.items()
        if size > 2
        for i, leaf in enumerate(space.leaves)
        if any(slot.group == group for slot in leaf.slots)
    }
    leaves = {
        (group, i)
        for group, i in leaves
        if sum(other == group for other, _ in leaves) > 2
    }
    assume(leaves)
    group, i = data.draw(st.sampled_from(sorted(leaves)))
    leaf = space.leaves[i]
    axes = tuple(
        tuple(Factor(f.size, None if f.name == group else f.name) for f in factors)
        for factors in leaf.axes
    )
    changed = list(space.leaves)
    changed[i] = dataclasses.replace(leaf, axes=axes)
    wrong = dataclasses.replace(space, leaves=tuple(changed))
    report = _verify(wrong, model, *inputs, key=_KEY)
    assert report.verdict == f"broken: group {group}, leaf {leaf.path}", report
    assert report.blamed == (group, leaf.path) and not report.holds
    # The other groups are innocent.
    broken = [g for g, r in report.residuals.items() if r > report.tolerance]
    assert broken == [group] and report.joint > report.tolerance


def _drawn(make, spec):
    """A network with drawn weights, of which nothing has to be compiled."""
    shapes = eqx.filter_eval_shape(make, _KEY)
    space = WeightSpace.from_spec(eqx.filter(shapes, _is_float), spec)
    drawn = jax.tree.map(lambda x: x / 2, draw_weights(space, 1))
    return eqx.combine(drawn, shapes)


def _is_float(leaf):
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def _mlp(use_bias=True, width=6, dtype=jnp.float32):
    spec = chain_spec(3, use_bias=use_bias)
    make = lambda key: eqx.nn.MLP(
        *(3, 2, width, 2),
        use_bias=use_bias,
        use_final_bias=use_bias,
        dtype=dtype,
        key=key,
    )
    return _drawn(make, spec), spec


_X = jnp.array([0.5, -1.0, 2.0])


@pytest.mark.parametrize(
    ("change", "blamed"),
    [
        # Only the columns of the last layer move, and nothing with them.
        (
            {
                ".layers[0].weight": (None, None),
                ".layers[0].bias": (None,),
                ".layers[1].weight": (None, None),
                ".layers[1].bias": (None,),
            },
            ("h1", ".layers[2].weight"),
        ),
        ({".layers[0].bias": (None,)}, ("h0", ".layers[0].bias")),
        # Rows and columns of the middle matrix, both of length 6, are exchanged.
        ({".layers[1].weight": ("h0", "h1")}, (None, ".layers[1].weight")),
        # A repeated axis where there is none.
        ({".layers[1].weight": ("h0", "h0")}, ("h0", ".layers[1].weight")),
        # The inputs' order matters.
        ({".layers[0].weight": ("h0", "in")}, ("in", ".layers[0].weight")),
    ],
)
def test_wrong_specs_are_broken(change, blamed):
    model, spec = _mlp()
    space = WeightSpace.from_spec(model, {**spec, **change})
    report = _verify(space, model, _X, key=_KEY)
    group, leaf = blamed
    assert report.blamed is not None and report.blamed[1] == leaf, report
    assert group is None or report.blamed[0] == group
    assert report.verdict == "broken: group {}, leaf {}".format(*report.blamed)


def test_the_right_spec_holds():
    model, spec = _mlp()
    space = WeightSpace.from_spec(model, spec)
    assert _verify(space, model, _X, key=_KEY).holds


def test_quick_verdicts_are_the_same_and_say_what_they_are():
    model, spec = _mlp()
    runs = []

    def counted(model, x):
        jax.debug.callback(lambda: runs.append(1))
        return model(x)

    right = WeightSpace.from_spec(model, spec)
    full = wsl.verify_symmetry(right, counted, model, _X, key=_KEY)
    jax.effects_barrier()
    many = len(runs)
    quick = wsl.verify_symmetry(right, counted, model, _X, key=_KEY, mode="quick")
    jax.effects_barrier()
    assert full.verdict == quick.verdict == "holds"
    assert len(runs) - many < many / 2
    assert quick.mode == "quick" and quick.residuals == {}
    assert len(quick.sensitivities) == len(right.groups)
    assert "verdict: holds (quick: one leaf of each group" in str(quick)
    wrong = WeightSpace.from_spec(model, {**spec, ".layers[1].weight": ("h0", "h1")})
    found = [
        wsl.verify_symmetry(wrong, model, _X, key=_KEY, mode=mode).verdict
        for mode in ("full", "quick")
    ]
    assert found[0] == found[1] and found[0].startswith("broken")
    ignored = [
        wsl.verify_symmetry(
            right, lambda m, x: x, model, _X, key=_KEY, num_samples=1, mode=mode
        ).verdict
        for mode in ("full", "quick")
    ]
    assert ignored[0] == ignored[1] and ignored[0].startswith("inconclusive: group")
    with without_type_checks(), pytest.raises(ValueError, match='"full" or "quick"'):
        wsl.verify_symmetry(right, model, _X, key=_KEY, mode="slow")  # pyright: ignore


def test_what_is_missing_is_blamed_before_what_is_there():
    # Rows move, the next layer's columns do not: to move nothing would be no cure.
    spec = {".layers[0].weight": ("h", None), ".layers[1].weight": (None, None)}
    model = _drawn(
        lambda key: eqx.nn.MLP(
            3, 2, 6, 1, use_bias=False, use_final_bias=False, key=key
        ),
        spec,
    )
    space = WeightSpace.from_spec(model, spec)
    report = _verify(space, model, _X, key=_KEY)
    assert report.verdict == "broken: group h, leaf .layers[1].weight"


def test_wrong_order_of_factors():
    # A flattened feature map has channels first; here pixels are taken to be.
    conv = eqx.nn.Conv2d(1, 4, 2, key=jax.random.key(0))
    readout = eqx.nn.Linear(16, 2, key=jax.random.key(1))
    model = {"conv": conv, "readout": readout}
    spec = {
        "['conv'].weight": ("c", None, None, None),
        "['conv'].bias": ("c", None, None),
        "['readout'].weight": (None, ("c", 4)),
        "['readout'].bias": (None,),
    }

    def apply(model, image):
        return model["readout"](jax.nn.relu(model["conv"](image)).ravel())

    image = jax.random.normal(jax.random.key(2), (1, 3, 3))
    space = WeightSpace.from_spec(model, spec)
    assert _verify(space, apply, model, image, key=_KEY).holds
    for axes in ((None, (4, "c")), (None, None)):
        wrong = WeightSpace.from_spec(model, {**spec, "['readout'].weight": axes})
        report = _verify(wrong, apply, model, image, key=_KEY)
        assert report.verdict == "broken: group c, leaf ['readout'].weight"


def test_gates_and_units_in_the_wrong_order():
    cell = eqx.nn.GRUCell(2, 5, key=_KEY)
    spec = {
        ".weight_ih": ((3, "units"), None),
        ".weight_hh": ((3, "units"), "units"),
        ".bias": ((3, "units"),),
        ".bias_n": ("units",),
    }

    def total(cell, xs):
        step = lambda state, x: (cell(x, state), None)
        return jax.lax.scan(step, jnp.zeros(5), xs)[0].sum()

    xs = jax.random.normal(_KEY, (4, 2))
    space = WeightSpace.from_spec(cell, spec)
    assert _verify(space, total, cell, xs, key=_KEY).holds
    for wrong in (("units", 3), None):
        space = WeightSpace.from_spec(cell, spec | {".bias": (wrong,)})
        report = _verify(space, total, cell, xs, key=_KEY)
        assert report.verdict == "broken: group units, leaf .bias"


def _heads(weights, x):
    """Each head: unit-wise products of two projections, then a mix of the heads."""
    a, b = (jnp.einsum("hud,d->hu", weights[name], x) for name in ("a", "b"))
    return jnp.einsum("ohu,hu->o", weights["out"], jax.nn.silu(a) * b)


def _head_weights(random):
    shapes = {"a": (3, 4, 2), "b": (3, 4, 2), "out": (2, 3, 4)}
    return {
        name: jnp.asarray(random.standard_normal(shape), jnp.float32)
        for name, shape in shapes.items()
    }


_HEAD_SPEC = {
    "['a']": ("heads", "units", None),
    "['b']": ("heads", "units", None),
    "['out']": (None, "heads", "units"),
}


def test_nested_groups_are_sampled_inside_blocks():
    weights = _head_weights(np.random.default_rng(0))
    x = jnp.array([1.0, -0.5])
    nested = WeightSpace.from_spec(weights, _HEAD_SPEC, nested={"units": "heads"})
    report = _verify(nested, _heads, weights, x, key=_KEY)
    assert report.holds
    assert min(report.sensitivities.values()) > 1e-3

    def scaled(weights, x):
        scale = jnp.arange(4.0).reshape(1, 4, 1)
        return _heads({**weights, "b": weights["b"] * scale}, x)

    report = _verify(nested, scaled, weights, x, key=_KEY)
    assert report.blamed is not None and report.blamed[0] == "units"

    def coupled(weights, x):  # Unit i of every head sees unit i of all others.
        a, b = (jnp.einsum("hud,d->hu", weights[name], x) for name in ("a", "b"))
        both = jax.nn.silu(a) * b.sum(0, keepdims=True)
        return jnp.einsum("ohu,hu->o", weights["out"], both)

    plain = WeightSpace.from_spec(weights, _HEAD_SPEC)
    assert _verify(plain, coupled, weights, x, key=_KEY).holds
    report = _verify(nested, coupled, weights, x, key=_KEY)
    assert report.blamed is not None and report.blamed[0] == "units"
    assert report.residuals["heads"] <= report.tolerance

    # One leaf alone lets unit i of one head meet unit i of the others.
    def meeting(weights, x):
        return _heads(weights, x) + weights["d"].prod(0).sum()

    weights["d"] = jnp.asarray(np.random.default_rng(1).standard_normal((3, 4)), "f4")
    spec = _HEAD_SPEC | {"['d']": ("heads", "units")}
    plain = WeightSpace.from_spec(weights, spec)
    assert _verify(plain, meeting, weights, x, key=_KEY).holds
    nested = WeightSpace.from_spec(weights, spec, nested={"units": "heads"})
    report = _verify(nested, meeting, weights, x, key=_KEY)
    assert report.verdict == "broken: group units, leaf ['d']"


def test_repeated_axes():
    random = np.random.default_rng(0)
    weights = {
        "w": jnp.asarray(random.standard_normal((4, 4)), jnp.float32),
        "u": jnp.asarray(random.standard_normal((4, 2)), jnp.float32),
        "v": jnp.asarray(random.standard_normal((3, 4)), jnp.float32),
    }

    def run(weights, xs):
        step = lambda h, x: (jnp.tanh(weights["w"] @ h + weights["u"] @ x), None)
        state, _ = jax.lax.scan(step, jnp.zeros(4), xs)
        return weights["v"] @ state

    xs = jnp.asarray(random.standard_normal((3, 2)), jnp.float32)
    spec = {"['w']": ("h", "h"), "['u']": ("h", None), "['v']": (None, "h")}
    space = WeightSpace.from_spec(weights, spec)
    report = _verify(space, run, weights, xs, key=_KEY)
    assert report.holds
    assert report.sensitivities["h", "['w']"] > 1e-2
    for axes in (("h", None), (None, "h")):
        space = WeightSpace.from_spec(weights, {**spec, "['w']": axes})
        report = _verify(space, run, weights, xs, key=_KEY)
        assert report.verdict == "broken: group h, leaf ['w']"


def test_functions_that_ignore_weights_are_inconclusive():
    model, spec = _mlp()
    space = WeightSpace.from_spec(model, spec)
    cases = {
        "the function ignores the leaf": lambda model, x: x,
        "the space has no groups": None,
        "the function has no outputs": lambda model, x: {},
        "outputs are not finite": lambda model, x: model(x) * jnp.nan,
    }
    for message, fn in cases.items():
        this = WeightSpace.from_spec(model) if fn is None else space
        report = _verify(this, fn or _call, model, _X, key=_KEY)
        assert report.verdict.startswith("inconclusive: ") and not report.holds
        assert message in report.verdict
    # Nothing of the first layers gets through to an input of zeros, times zero.
    report = _verify(
        space,
        lambda m, x: m.layers[2](m.layers[1](m.layers[0](x) * 0)),
        model,
        _X,
        key=_KEY,
    )
    assert report.verdict.startswith("inconclusive: group h0")
    # Groups of one element move nothing.
    single, _ = _mlp(width=1)
    space = WeightSpace.from_spec(single, spec)
    report = _verify(space, single, _X, key=_KEY)
    assert report.verdict == (
        "inconclusive: the space has no groups that move anything"
    )


def _call(model, x):
    return model(x)


def test_noise_uncovers_what_initialisation_hides():
    class Normed(eqx.Module):
        rise: eqx.nn.Linear
        norm: eqx.nn.LayerNorm
        fall: eqx.nn.Linear

        def __call__(self, x):
            return self.fall(self.norm(self.rise(x)))

    model = Normed(
        eqx.nn.Linear(3, 5, key=jax.random.key(0)),
        eqx.nn.LayerNorm(5),
        eqx.nn.Linear(5, 2, key=jax.random.key(1)),
    )
    spec = {
        ".rise.weight": ("h", None),
        ".rise.bias": ("h",),
        ".norm.weight": (None,),
        ".norm.bias": ("h",),
        ".fall.weight": (None, "h"),
        ".fall.bias": (None,),
    }
    space = WeightSpace.from_spec(model, spec)
    report = _verify(space, model, _X, key=_KEY)
    assert report.verdict == "broken: group h, leaf .norm.weight"
    # Control: with all scales at one, the mistake does not show.
    report = _verify(space, model, _X, key=_KEY, noise=0.0)
    assert report.holds
    assert report.remarks == {("h", ".norm.bias"): "the leaf is uniform"}


def test_larger_groups_than_the_space_says():
    # A sum over rows: they move on their own, and the symmetry is real.
    weights = {"w": jnp.arange(6.0).reshape(3, 2)}
    space = WeightSpace.from_spec(weights, {"['w']": ("g", None)})
    report = _verify(space, lambda w: w["w"].sum(0), weights, key=_KEY)
    assert report.holds and report.remarks == {("g", "['w']"): "moves on its own"}
    # Control: weighted, it is broken.
    scale = jnp.array([[1.0], [2.0], [3.0]])
    report = _verify(space, lambda w: (w["w"] * scale).sum(0), weights, key=_KEY)
    assert report.verdict == "broken: group g, leaf ['w']"


def test_outputs_of_many_kinds():
    model, spec = _mlp()

    def apply(model, x):
        y = model(x)
        return {
            "half": y.astype(jnp.bfloat16),
            "best": jnp.argmax(y),
            "mask": jnp.array([0.0, -jnp.inf]),
            "label": "a string",
            "key": jax.random.key(3),
        }

    space = WeightSpace.from_spec(model, spec)
    assert _verify(space, apply, model, _X, key=_KEY).holds
    wrong = WeightSpace.from_spec(model, {**spec, ".layers[0].bias": (None,)})
    report = _verify(wrong, apply, model, _X, key=_KEY)
    assert report.verdict == "broken: group h0, leaf .layers[0].bias"

    # Integers alone.
    def codes(model, x):
        return jnp.round(100 * model(x)).astype(jnp.int32)

    assert _verify(space, codes, model, _X, key=_KEY).holds
    report = _verify(wrong, codes, model, _X, key=_KEY)
    assert report.verdict == "broken: group h0, leaf .layers[0].bias"


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_tolerance_follows_the_dtype(dtype):
    model, spec = _mlp(dtype=dtype)
    space = WeightSpace.from_spec(model, spec)
    report = _verify(space, model, _X.astype(dtype), key=_KEY)
    assert report.holds
    eps = float(jnp.finfo(dtype).eps)
    assert 8 * eps < report.tolerance < 1000 * eps
    wrong = WeightSpace.from_spec(model, {**spec, ".layers[1].weight": ("h0", "h1")})
    report = _verify(wrong, model, _X.astype(dtype), key=_KEY)
    assert report.blamed is not None and report.blamed[1] == ".layers[1].weight"


def test_wide_sums_are_within_tolerance():
    spec = chain_spec(2)
    model = _drawn(lambda key: eqx.nn.MLP(300, 2, 1000, 1, key=key), spec)
    space = WeightSpace.from_spec(model, spec)
    x = jax.random.normal(jax.random.key(1), (300,))
    report = _verify(space, model, x, key=_KEY)
    assert report.holds and report.joint > 0  # The order of the sums did matter.
    assert report.tolerance < 1e-3


def test_models_with_other_arrays():
    class Counted(eqx.Module):
        linear: eqx.nn.Linear
        calls: jax.Array

        def __call__(self, x, key):
            return self.linear(x).sum() + jax.random.normal(key), self.calls

    model = Counted(eqx.nn.Linear(3, 4, key=_KEY), jnp.array(0))
    weights = eqx.filter(model, eqx.is_inexact_array)
    spec = {".linear.weight": ("h", None), ".linear.bias": ("h",)}
    space = WeightSpace.from_spec(weights, spec)
    report = _verify(space, model, _X, jax.random.key(1), key=_KEY)
    assert report.holds


def test_report_as_text():
    model, spec = _mlp(use_bias=False)
    space = WeightSpace.from_spec(model, spec)
    report = wsl.SymmetryReport(
        "broken: group h0, leaf .layers[1].weight",
        1e-6,
        0.25,
        {"h0": 0.5, "h1": 1e-7},
        {("h0", ".layers[1].weight"): 0.125, ("h1", ".layers[2].weight"): 0.0},
        {("h1", ".layers[2].weight"): "moves on its own"},
        ("h0", ".layers[1].weight"),
    )
    expected = """\
group       leaf                    change
h0          all its leaves          5.0e-01
            only .layers[1].weight  1.2e-01
h1          all its leaves          1.0e-07
            only .layers[2].weight  0.0e+00  moves on its own
all groups                          2.5e-01
tolerance: 1.0e-06
verdict: broken: group h0, leaf .layers[1].weight"""
    assert str(report) == expected
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(report, "verdict", "holds")  # noqa: B010
    # The model may be called as it is, or by a function.
    one = _verify(space, model, _X, key=_KEY)
    two = _verify(space, _call, model, _X, key=_KEY)
    assert one == two and one.holds


def test_errors():
    model, spec = _mlp()
    space = WeightSpace.from_spec(model, spec)
    with pytest.raises(ValueError, match="one sample or more"):
        _verify(space, model, _X, key=_KEY, num_samples=0)
    with pytest.raises(ValueError, match="noise of 0 or more"):
        _verify(space, model, _X, key=_KEY, noise=-1.0)
    with pytest.raises(ValueError, match="Nothing to check"):
        _verify(space, lambda: 0, key=_KEY)
    other, _ = _mlp(use_bias=False)
    with pytest.raises(ValueError, match="missing: .*bias"):
        _verify(space, _call, other, _X, key=_KEY)
