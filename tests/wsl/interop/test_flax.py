"""Flax and Haiku need no code: what their page says is so."""

import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wsl
from tests.wsl.helpers import array, call, draw_element
from tests.wsl.infer.helpers import numbers


nn = pytest.importorskip("flax.linen")
pytestmark = pytest.mark.nightly  # Flax takes its time to import and to run.


class _Net(nn.Module):
    """A skip connection by concatenation, and a batch norm."""

    @nn.compact
    def __call__(self, x, train=False):
        h = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x)))
        return nn.Dense(2)(jnp.tanh(nn.Dense(3)(jnp.concatenate([h, x], axis=-1))))


def _apply(variables, x):
    return _Net().apply(variables, x)


@pytest.fixture(scope="module")
def flax_net():
    x = numbers(5, 3)
    with jax.numpy_rank_promotion("allow"):
        variables = _Net().init(jax.random.key(0), x)
        random = np.random.default_rng(1)
        variables = jax.tree.map(
            lambda v: array(0.5 + np.abs(random.standard_normal(v.shape))), variables
        )
        space = wsl.infer_weight_space(_apply, variables, x)
    return variables, space, x


def test_linen_with_running_statistics(flax_net):
    variables, space, x = flax_net
    assert sorted(space.groups.values()) == [3, 4]
    moved = space.permute(variables, draw_element(space, 0))
    stats = ("batch_stats", "BatchNorm_0", "mean")
    old, new = variables, moved
    for name in stats:
        old, new = old[name], new[name]
    assert sorted(np.asarray(old)) == sorted(np.asarray(new))
    with jax.numpy_rank_promotion("allow"):
        before, after = (call(_apply, v, x) for v in (variables, moved))
    np.testing.assert_allclose(after, before, atol=1e-5)
    match = wsl.match_weights(space, variables, moved, key=jax.random.key(0))
    assert match.distance_before > 0.1 and match.distance < 1e-6


def test_statistics_are_measured_anew(flax_net):
    variables, _, x = flax_net

    def update(variables, batch):
        _, new = _Net().apply(variables, batch, train=True, mutable=["batch_stats"])
        return {**variables, **new}

    with jax.numpy_rank_promotion("allow"):
        found = wsl.matching.reset_statistics(variables, update, x)
    dense = variables["params"]["Dense_0"]
    units = np.asarray(x) @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
    stats = found["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], units.mean(0), atol=1e-3)
    np.testing.assert_allclose(stats["var"], units.var(0), rtol=1e-2)


def test_encoders_of_variables(flax_net):
    variables, space, x = flax_net
    encoder = wsl.encoders.Statistics(space)
    assert encoder(variables).shape == (encoder.num_features,)
    probing = wsl.encoders.Probing(3, 2, 2, key=jax.random.key(0))
    with jax.numpy_rank_promotion("allow"):
        vector = probing(eqx.Partial(_Net().apply, variables))
    assert vector.shape == (4,)
    stacked = wsl.stack([variables, variables])
    assert eqx.filter_vmap(wsl.encoders.Flat(space))(stacked).shape[0] == 2


_PAGE = (Path(__file__).parents[3] / "docs" / "foreign.md").read_text()
_SECTION = _PAGE.split("## Flax and Haiku\n")[1].split("\n## ")[0]
_BLOCK = r"^```python\n(.*?)^```\n\n```text\n(.*?)^```"
_BLOCKS = re.findall(_BLOCK, _SECTION, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("library", "at"), [("flax.linen", 0), ("flax.nnx", 1), ("haiku", 2)]
)
def test_the_page(library, at, capsys):
    pytest.importorskip(library)
    assert len(_BLOCKS) == 3
    code, shown = _BLOCKS[at]
    assert f"import {library}" in code or "from flax import nnx" in code
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        exec(compile(code, "foreign.md", "exec"), {"__name__": "guide"})
    assert capsys.readouterr().out.strip() == shown.strip()


def test_nnx_attention_has_its_whole_group():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(3, 5, rngs=rngs)
            self.mixer = nnx.MultiHeadAttention(2, 5, 6, rngs=rngs, decode=False)
            self.last = nnx.Linear(5, 2, rngs=rngs)

        def __call__(self, x):
            h = nnx.tanh(self.first(x))
            return self.last(h + self.mixer(h))

    x = numbers(4, 3)
    with jax.numpy_rank_promotion("allow"):
        model = Net(nnx.Rngs(0))
        graph, weights, rest = nnx.split(model, nnx.Param, ...)
        run = lambda w, x: nnx.merge(graph, w, rest)(x)
        space = wsl.infer_weight_space(run, weights, x)
        # Heads, queries with keys and values with outputs in each, the stream.
        assert sorted(space.groups.values()) == [2, 3, 3, 5]
        moved = space.permute(weights, draw_element(space, 0))
        np.testing.assert_allclose(run(moved, x), model(x), atol=1e-5)
        kernel = weights["first"]["kernel"]
        other = moved["first"]["kernel"]
    assert np.abs(np.asarray(kernel[...]) - np.asarray(other[...])).max() > 0.1
