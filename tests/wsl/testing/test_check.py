"""`check_equivariance`: right layers pass, layers wrong in one term do not."""

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from jaxtyping import Array

from tests.helpers import examples
from wsl import WeightSpace
from wsl.testing import check_equivariance, check_invariance, weight_spaces


_KEY = jax.random.key(0)


def _space():
    """A recurrent leaf, a chain of two layers, nested units."""
    weights = {
        "a": jnp.zeros((4, 3)),
        "bias": jnp.zeros(4),
        "heads": jnp.zeros((2, 6, 4)),
        "w": jnp.zeros((4, 4)),
    }
    spec = {
        "['a']": ("h", "in"),
        "['bias']": ("h",),
        "['heads']": (None, ("heads", "units"), "h"),
        "['w']": ("h", "h"),
    }
    nested, sizes = {"units": "heads"}, {"heads": 2}
    return WeightSpace.from_spec(
        weights, spec, fixed=["in"], nested=nested, sizes=sizes
    )


class _Layer(eqx.Module):
    """A few equivariant terms by hand, any of which can be replaced."""

    scales: Array
    terms: dict = eqx.field(static=True)

    def __init__(self, **terms):
        self.scales = jnp.array([1.0, 0.5, 0.0, 1.0])
        self.terms = terms

    def __call__(self, x):
        def term(name, default):
            return self.terms.get(name, default)(x)

        s = self.scales
        a, bias, heads, w = (x[name] for name in ("a", "bias", "heads", "w"))
        blocks = heads.reshape(2, 2, 3, 4, -1)
        return {
            "a": s[0] * a + term("rows", lambda x: x["bias"][:, None]),
            "bias": s[1] * bias
            + w.mean(1)
            + term("diagonal", lambda x: jnp.einsum("iic->ic", x["w"])),
            "heads": heads
            + term(
                "blocks",
                lambda x: jnp.broadcast_to(
                    blocks.mean(2, keepdims=True), blocks.shape
                ).reshape(heads.shape),
            )
            + s[2] * term("below", lambda x: x["bias"][None, None]),
            "w": jnp.tanh(w)
            + term("transposed", lambda x: x["w"].transpose(1, 0, 2))
            + s[3] * bias[:, None],
        }


_WRONG = {
    # Coefficients that depend on the position.
    "position": (
        {"rows": lambda x: x["bias"][:, None] * jnp.arange(4.0)[:, None, None]},
        "h",
        "['a']",
    ),
    # Rows of the recurrent leaf where columns are meant: the wrong neighbour.
    "reversed": ({"transposed": lambda x: x["w"][::-1]}, "h", "['w']"),
    "shifted": ({"diagonal": lambda x: jnp.roll(x["bias"], 1, 0)}, "h", "['bias']"),
    "one axis": ({"transposed": lambda x: x["w"][:1]}, "h", "['w']"),
    # Units of one head get the mean of the other's at the same place.
    "heads": (
        {
            "blocks": lambda x: (
                x["heads"].reshape(2, 2, 3, 4, -1)[:, ::-1].reshape(x["heads"].shape)
            )
        },
        "units",
        "['heads']",
    ),
    # Hidden by a coefficient that starts at zero.
    "gated": ({"below": lambda x: x["bias"][None, None, :1]}, "h", "['heads']"),
}


@pytest.mark.parametrize("channels", [1, 3])
def test_right_layers_pass(channels):
    check_equivariance(_Layer(), _space(), in_channels=channels, key=_KEY)


@pytest.mark.parametrize("name", _WRONG)
def test_layers_wrong_in_one_term_are_caught(name):
    terms, group, leaf = _WRONG[name]
    with pytest.raises(AssertionError) as caught:
        check_equivariance(_Layer(**terms), _space(), in_channels=2, key=_KEY)
    message = str(caught.value)
    assert message.startswith("Not equivariant: moving ")
    assert f"leaf {leaf!r} is off by" in message
    assert f"group {group!r} alone" in message or "all groups together" in message


def test_noise_uncovers_what_initialisation_hides():
    terms, _, _ = _WRONG["gated"]
    layer, space = _Layer(**terms), _space()
    check_equivariance(layer, space, in_channels=2, key=_KEY, noise=0.0)
    with pytest.raises(AssertionError):
        check_equivariance(layer, space, in_channels=2, key=_KEY)


def _norms(x):
    return jnp.stack([jnp.sum(x[name] ** 2) for name in ("a", "bias", "heads", "w")])


def test_invariance():
    space = _space()
    check_invariance(_norms, space, key=_KEY)
    check_equivariance(_norms, space, invariant=True, key=_KEY)
    with pytest.raises(AssertionError, match="^Not invariant: moving .*output "):
        check_invariance(lambda x: (_norms(x), x["bias"][0]), space, key=_KEY)
    # The trace of the recurrent leaf is invariant, that of any part of it is not.
    check_invariance(lambda x: jnp.einsum("iic->c", x["w"]), space, key=_KEY)
    with pytest.raises(AssertionError, match="group 'h' alone|all groups"):
        check_invariance(
            lambda x: jnp.einsum("iic->c", x["w"][:2, :2]), space, key=_KEY
        )


def test_equivariant_layers_are_not_invariant_and_back():
    space = _space()
    with pytest.raises(AssertionError, match="^Not invariant"):
        check_invariance(_Layer(), space, key=_KEY)
    with pytest.raises(AssertionError, match="pass `invariant=True`"):
        check_equivariance(_norms, space, key=_KEY)
    with pytest.raises(AssertionError, match="are not weight features"):
        check_equivariance(lambda x: {**x, "a": x["a"][:2]}, space, key=_KEY)


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_layers_that_ignore_their_input(constant):
    space = _space()
    fill = lambda x: jax.tree.map(lambda leaf: jnp.full_like(leaf, constant), x)
    with pytest.raises(AssertionError, match="do not depend on the features"):
        check_equivariance(fill, space, key=_KEY)
    check_equivariance(fill, space, key=_KEY, allow_constant=True)
    # A constant that is not equivariant is an error all the same.
    ramp = lambda x: jax.tree.map(
        lambda leaf: jnp.arange(float(leaf.size)).reshape(leaf.shape), x
    )
    with pytest.raises(AssertionError, match="^Not equivariant"):
        check_equivariance(ramp, space, key=_KEY, allow_constant=True)


def test_not_finite():
    nan = lambda x: {**x, "w": x["w"] * jnp.nan}
    with pytest.raises(AssertionError) as caught:
        check_equivariance(nan, _space(), key=_KEY)
    assert str(caught.value) == "Not all numbers of leaf \"['w']\" are finite."


def test_tolerance():
    space = WeightSpace.from_spec({"b": jnp.zeros(4)}, {"['b']": ("g",)})
    ramp = jnp.linspace(0.0, 1e-4, 4)[:, None]
    off = lambda x: {"b": x["b"] * (1.0 + ramp)}
    with pytest.raises(AssertionError, match="allowed: 9.5e-07"):
        check_equivariance(off, space, key=_KEY)
    with pytest.raises(AssertionError, match="allowed: 1e-05"):
        check_equivariance(off, space, key=_KEY, tolerance=1e-5)
    check_equivariance(off, space, key=_KEY, tolerance=1e-3)


def test_channels_per_leaf_and_half_precision():
    weights = {"b": jnp.zeros(4, jnp.bfloat16), "w": jnp.zeros((4, 40), jnp.bfloat16)}
    space = WeightSpace.from_spec(weights, {"['b']": ("g",), "['w']": ("g", None)})
    counts = {"['b']": 1, "['w']": 3}

    def layer(x):
        assert x["b"].shape == (4, 1) and x["w"].shape == (4, 40, 3)
        assert x["b"].dtype == jnp.bfloat16
        mean = x["w"].mean((0, 1), keepdims=True)
        return {"b": x["b"] + mean[0, :, :1], "w": x["w"] + x["b"][:, None] + mean}

    check_equivariance(layer, space, in_channels=counts, key=_KEY)
    wrong = lambda x: {**layer(x), "b": x["b"] + x["w"][:1, 0, :1]}
    with pytest.raises(AssertionError, match=r"leaf \"\['b'\]\""):
        check_equivariance(wrong, space, in_channels=counts, key=_KEY)


@examples(10)
@given(weight_spaces(max_leaves=2), st.booleans())
def test_any_space(space, wrong):
    """Sums over all that may move, added back; and a ramp along one moving axis."""
    if not any(size > 1 for size in space.groups.values()):
        with pytest.raises(ValueError, match="No group of this space can move"):
            check_equivariance(lambda x: x, space, key=_KEY)
        return
    whole, leaf, slot = next(
        (leaf, piece, slot)
        for leaf in space.leaves
        for piece in leaf.pieces or (leaf,)
        for slot in piece.slots
        if slot.size > 1
    )
    path = whole.path.strip("[']")
    sizes = leaf.layout.sizes
    ramp = np.arange(slot.size).reshape(
        [-1 if d == slot.dimension else 1 for d in range(len(sizes))]
    )
    ramp = np.broadcast_to(ramp, sizes).reshape(leaf.shape)
    if whole.pieces:
        placed = np.zeros(whole.shape)
        placed[np.ix_(*leaf.index)] = ramp
        ramp = placed
    ramp = jnp.asarray(ramp, float)

    def layer(x):
        total = sum(leaf.sum() for leaf in jax.tree.leaves(x))
        out = jax.tree.map(lambda leaf: leaf + jnp.tanh(total), x)
        return {**out, path: out[path] + ramp[..., None]} if wrong else out

    if not wrong:
        return check_equivariance(layer, space, key=_KEY)
    with pytest.raises(AssertionError) as caught:
        check_equivariance(layer, space, key=_KEY)
    assert repr(whole.path) in str(caught.value)


def test_arguments():
    space = _space()
    with pytest.raises(ValueError, match="one sample or more"):
        check_equivariance(_Layer(), space, key=_KEY, num_samples=0)
    with pytest.raises(ValueError, match="Give every leaf its number of channels"):
        check_equivariance(_Layer(), space, key=_KEY, in_channels={"a": 1})
