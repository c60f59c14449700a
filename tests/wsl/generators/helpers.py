"""Targets whose initialisers are known by hand."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from tests.wsl.helpers import array
from wsl.generators import ChunkedHyperNetwork, MLPHyperNetwork, SliceHyperNetwork


KINDS = {
    "slice": functools.partial(SliceHyperNetwork, slice_size=4, width=32),
    "chunked": functools.partial(ChunkedHyperNetwork, chunk_size=10, width=32),
    "mlp": functools.partial(MLPHyperNetwork, width=32),
}


class Odd(eqx.Module):
    """What initialisers make beside layers."""

    scalar: Any
    shifted: Any
    half: Any
    table: Any
    steps: Any
    nothing: Any
    name: str

    def __init__(self, *, key):
        one, two, three = jr.split(key, 3)
        self.scalar = jr.normal(one) * 3 + 1
        self.shifted = jr.uniform(two, (5, 2), minval=4, maxval=5)
        self.half = jr.normal(three, (3,), jnp.bfloat16)
        self.table = np.arange(4, dtype=np.float32)
        self.steps = jnp.arange(3)
        self.nothing = jnp.zeros((0, 2))
        self.name = "odd"


def make_mlp(key):
    return eqx.nn.MLP(3, 2, 5, 2, key=key)


def make_pictures(key):
    one, two = jr.split(key)
    return {
        "conv": eqx.nn.Conv2d(2, 7, 3, key=one),
        "norm": eqx.nn.LayerNorm(7),
        "odd": Odd(key=two),
    }


def make_sequences(key):
    one, two = jr.split(key)
    return {
        "attention": eqx.nn.MultiheadAttention(2, 6, key=one),
        "cell": eqx.nn.GRUCell(2, 5, key=two),
    }


def _uniform(fan_in):
    """Mean and standard deviation of a uniform distribution on ±1/sqrt(fan_in)."""
    return 0.0, (1 / (3 * fan_in)) ** 0.5


# Path: mean and standard deviation, as the layers' documentation has them.
EXPECTED = {
    make_mlp: {
        f".layers[{i}].{name}": _uniform(fan_in)
        for i, fan_in in enumerate((3, 5, 5))
        for name in ("weight", "bias")
    },
    make_pictures: {
        "['conv'].weight": _uniform(2 * 9),
        "['conv'].bias": _uniform(2 * 9),
        "['norm'].weight": (1.0, 0.0),
        "['norm'].bias": (0.0, 0.0),
        "['odd'].scalar": (1.0, 3.0),
        "['odd'].shifted": (4.5, (1 / 12) ** 0.5),
        "['odd'].half": (0.0, 1.0),
        "['odd'].table": (np.arange(4.0), 0.0),
    },
    make_sequences: {
        **{
            f"['attention'].{name}_proj.weight": _uniform(6)
            for name in ("query", "key", "value", "output")
        },
        **{
            f"['cell'].{name}": _uniform(5)
            for name in ("weight_ih", "weight_hh", "bias", "bias_n")
        },
    },
}


CONTEXT_SIZES = {make_mlp: 2, make_pictures: 4, make_sequences: 1}


@functools.cache
def built(kind, make=make_mlp, seed=0):
    """A generator, made once for all tests."""
    return KINDS[kind](make, CONTEXT_SIZES[make], key=jr.key(seed))


def leaves_of(networks):
    arrays = eqx.filter(networks, lambda x: eqx.is_inexact_array(x) and x.size > 0)
    return {
        jax.tree_util.keystr(path): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree_util.tree_leaves_with_path(arrays)
    }


@functools.cache
def fresh_contexts(size, num=6000):
    return array(np.random.default_rng(11).standard_normal((num, size)))


@eqx.filter_jit
def generate(generator, contexts):
    return eqx.filter_vmap(generator)(contexts)


def misfits(generator, contexts, expected):
    """By leaf, how far mean and variance are off, in shares of deviation, variance."""
    leaves = leaves_of(generate(generator, contexts))
    assert leaves.keys() == expected.keys()
    off = {}
    for path, (mean, deviation) in expected.items():
        if deviation == 0:
            np.testing.assert_array_equal(leaves[path] - mean, 0)
        else:
            ratio = leaves[path].var() / deviation**2
            off[path] = abs(leaves[path].mean() - mean) / deviation, abs(ratio - 1)
    return off
