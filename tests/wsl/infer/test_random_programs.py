"""Whatever the program, the group found for it leaves its outputs alone."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given

from tests.helpers import examples
from tests.wsl.infer.helpers import act, draw_element
from tests.wsl.infer.programs import (
    evaluated,
    GENTLE,
    JOINING,
    leaf_shapes,
    OPERATIONS,
    traced,
)
from wsl import infer_weight_space, WeightSpace


_NUMBER = st.integers(0, 11)


def _programs(names):
    instruction = st.tuples(st.sampled_from(names), *[_NUMBER] * 4)
    return st.lists(instruction, min_size=1, max_size=10)


def infer(program) -> WeightSpace:
    leaves = [jax.ShapeDtypeStruct(s, jnp.float32) for s in leaf_shapes(program)]
    x = jax.ShapeDtypeStruct((3,), jnp.float32)
    return infer_weight_space(traced(program), leaves, x)


def residual(program, space: WeightSpace, seed) -> float:
    """How far group elements move the outputs, next to their size or to rounding."""
    random = np.random.default_rng(seed)
    leaves = [random.standard_normal(x.shape) for x in space.leaves]
    x = random.standard_normal(3)
    before = evaluated(program, leaves, x)
    worst = 0.0
    for element in (draw_element(space, seed), draw_element(space, seed + 1)):
        moved = act(space, leaves, element)
        after = evaluated(program, moved, x)
        scale = np.abs(before).max() + 1e-3  # Some programs give zero.
        worst = max(worst, np.abs(after - before).max() / scale)
    return worst


@examples(60)
@given(_programs(OPERATIONS), st.integers(0, 2**31))
def test_group_of_a_random_program_preserves_it(program, seed):
    assert residual(program, infer(program), seed) < 1e-6


@examples(60)
@given(_programs(GENTLE), st.integers(0, 2**31))
def test_group_of_a_gentle_program_preserves_it(program, seed):
    space = infer(program)
    assert space.unknown_primitives == ()
    assert residual(program, space, seed) < 1e-6


@examples(20)
@given(_programs(JOINING), st.integers(0, 2**31))
def test_group_of_a_program_that_joins_and_cuts_preserves_it(program, seed):
    space = infer(program)
    assert not any("kept from following" in tie for tie in space.ties)
    assert residual(program, space, seed) < 1e-6


def test_programs_that_join_and_cut_have_sums():
    random = np.random.default_rng(0)
    found = 0
    for _ in range(8):
        names = random.choice(JOINING, 6)
        program = [(str(name), *random.integers(0, 12, 4).tolist()) for name in names]
        space = infer(program)
        cut = [leaf for leaf in space.leaves if leaf.pieces]
        found += any(piece.slots for leaf in cut for piece in leaf.pieces)
    assert found > 1
