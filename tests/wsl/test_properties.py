"""The parts together, on random networks: infer, verify, layers, pools."""

import dataclasses

import equinox as eqx
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import assume, given

import wsl
from tests.helpers import examples
from wsl.testing import architectures, check_invariance


_SEEDS = st.integers(0, 2**31 - 1)


def _places(space: wsl.WeightSpace) -> dict[tuple[int, int, int, int], str]:
    """Which group acts where: by leaf, axis, stride on the axis, and size."""
    found = {}
    for leaf, described in enumerate(space.leaves):
        for axis, factors in enumerate(described.axes):
            sizes = [factor.size for factor in factors]
            for i, factor in enumerate(factors):
                if factor.size > 1 and factor.name in space.groups:
                    stride = int(np.prod(sizes[i + 1 :]))
                    found[leaf, axis, stride, factor.size] = factor.name
    return found


def _same_group(a: wsl.WeightSpace, b: wsl.WeightSpace) -> bool:
    """Whether two spaces of the same leaves have one group, by whatever names."""
    mine, other = _places(a), _places(b)
    if mine.keys() != other.keys():
        return False
    names = {mine[place]: other[place] for place in mine}
    if any(names[mine[place]] != other[place] for place in mine):
        return False
    nested = {names.get(x): names.get(y) for x, y in a.nested if a.groups[y] > 1}
    return len(set(names.values())) == len(names) and nested.items() == {
        (x, y) for x, y in b.nested if b.groups[y] > 1
    }


@examples(15)
@given(architectures(), _SEEDS)
def test_the_inferred_group_is_the_known_one_and_holds(architecture, seed):
    _, model, inputs, known = architecture
    space = wsl.infer_weight_space(model, *inputs)
    assert space.unknown_primitives == ()
    assert _same_group(space, known), f"{space}\n\nexpected:\n{known}"
    assume(_places(known))
    report = wsl.verify_symmetry(space, model, *inputs, key=jax.random.key(seed))
    assert report.holds and report.blamed is None, str(report)
    assert max(*report.residuals.values(), report.joint) <= report.tolerance < 1e-3


def test_another_group_is_noticed():
    mlp = eqx.filter_eval_shape(lambda: eqx.nn.MLP(3, 2, 4, 2, key=jax.random.key(0)))
    space = wsl.infer_weight_space(mlp, np.zeros(3, np.float32))
    assert _same_group(space, dataclasses.replace(space))
    assert not _same_group(space, _uncoupled(space, 0))
    assert not _same_group(space, space.unfix("f0"))


def _uncoupled(space: wsl.WeightSpace, leaf: int) -> wsl.WeightSpace:
    """The same space, but one leaf moves by groups of its own."""
    other = [
        tuple(f._replace(name=f"{f.name}*") if f.name else f for f in factors)
        for factors in space.leaves[leaf].axes
    ]
    leaves = list(space.leaves)
    leaves[leaf] = dataclasses.replace(leaves[leaf], axes=tuple(other))
    here = {factor.name for factor in space.leaves[leaf].factors}
    present = {factor.name for one in leaves for factor in one.factors}
    fixed = space.fixed | {f"{name}*" for name in space.fixed & here}
    nested = space.nested + tuple(
        (f"{x}*", f"{y}*") for x, y in space.nested if {x, y} <= here
    )
    return dataclasses.replace(
        space,
        leaves=tuple(leaves),
        fixed=frozenset(fixed & present),
        nested=tuple(pair for pair in nested if set(pair) <= present),
    )


class _Layers(eqx.Module):
    """Two equivariant layers with a nonlinear function between them, and a pool."""

    first: wsl.nn.EquivariantLinear
    second: wsl.nn.EquivariantLinear
    pool: wsl.nn.InvariantPool

    def __init__(self, space, *, key):
        first, second = jax.random.split(key)
        self.first = wsl.nn.EquivariantLinear(space, 1, 2, key=first)
        self.second = wsl.nn.EquivariantLinear(space, 2, 2, key=second)
        self.pool = wsl.nn.InvariantPool(space, 2, "max")

    def __call__(self, x):
        return self.pool(self.second(jax.tree.map(jax.nn.relu, self.first(x))))


@examples(4)
@given(architectures(), _SEEDS)
def test_layers_and_a_pool_see_no_permutation(architecture, seed):
    space = wsl.infer_weight_space(architecture.model, *architecture.inputs)
    assume(_places(space))
    build, check = jax.random.split(jax.random.key(seed))
    layers = _Layers(space, key=build)
    check_invariance(layers, space, key=check, num_samples=1)
    # Control: they tell a leaf from the others that moves with them.
    leaf = max(leaf for leaf, *_ in _places(space))
    with pytest.raises(AssertionError):
        check_invariance(layers, _uncoupled(space, leaf), key=check, num_samples=2)
