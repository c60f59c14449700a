"""The strategies: what they draw is valid, and reaches every case."""

import subprocess
import sys
import textwrap

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import find, given, settings

from tests.helpers import examples
from tests.wsl.helpers import call
from wsl import WeightSpace
from wsl.testing import (
    architectures,
    features,
    group_elements,
    weight_spaces,
    weights,
)


_QUIET = settings(database=None, max_examples=300)


@examples(15)
@given(st.data())
def test_what_is_drawn_fits_the_space(data):
    space = data.draw(weight_spaces())
    element = data.draw(group_elements(space))
    numbers = data.draw(weights(space))
    assert jax.tree.structure(numbers) == space.treedef
    back = space.permute(space.permute(numbers, element), space.inverse(element))
    for leaf, same in zip(jax.tree.leaves(numbers), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(leaf, same)
    for group, shape in space.element_shapes().items():
        assert element[group].shape == shape
        expected = np.broadcast_to(np.arange(shape[-1]), shape)
        np.testing.assert_array_equal(np.sort(element[group], -1), expected)
    counts = {x.path: 2 for x in space.leaves} | {space.leaves[0].path: 3}
    drawn = data.draw(features(space, counts))
    space.feature_leaves(drawn, [counts[x.path] for x in space.leaves])
    space.feature_leaves(data.draw(features(space, 4)), [4] * len(space.leaves))


@pytest.mark.parametrize(
    "wanted",
    [
        lambda space: any(x.shape == () for x in space.leaves),
        lambda space: bool(space.fixed),
        lambda space: not space.groups,
        lambda space: dict(space.nested) == {"inner": "outer"},
        lambda space: len(space.nested) == 2,
        lambda space: 1 in space.groups.values(),
        # A name twice on one leaf, on two axes and on one.
        lambda space: any(
            sum(slot.group == "b" for slot in x.slots) > 1 for x in space.leaves
        ),
        # An axis of a fixed part and a group.
        lambda space: any(
            len(factors) == 2 and factors[0].name is None
            for x in space.leaves
            for factors in x.axes
        ),
    ],
)
def test_every_sort_of_space_is_drawn(wanted):
    assert isinstance(find(weight_spaces(), wanted, settings=_QUIET), WeightSpace)


def test_options_are_kept():
    strategy = weight_spaces(max_leaves=1, max_axes=2, fixed=False, nested=False)

    @settings(max_examples=50, database=None)
    @given(strategy)
    def check(space):
        assert len(space.leaves) == 1 and len(space.leaves[0].shape) <= 2
        assert not space.fixed and not space.nested

    check()


@pytest.mark.nightly
def test_zeros_are_drawn_now_and_then():
    space = WeightSpace.from_spec({"a": jnp.zeros((3, 3)), "b": jnp.zeros(3)})
    for strategy in (weights(space), features(space, 2)):
        cases = {
            "none": lambda x: all((leaf != 0).all() for leaf in x.values()),
            "a leaf": lambda x: (x["a"] == 0).all() and (x["b"] != 0).all(),
            "entries": lambda x: 0 < (x["a"] == 0).sum() < x["a"].size,
            "all": lambda x: all((leaf == 0).all() for leaf in x.values()),
        }
        for wanted in cases.values():
            find(strategy, wanted, settings=_QUIET)


@pytest.mark.parametrize(
    "kind", ["mlp", "perceptron", "residual", "conv", "gru", "lstm", "attention"]
)
def test_architectures_run(kind):
    @settings(max_examples=1, database=None, derandomize=True)
    @given(architectures([kind]))
    def check(architecture):
        assert architecture.kind == kind
        output = call(architecture.model, *architecture.inputs)
        assert output.shape == (2,) and np.isfinite(output).all()
        architecture.space.flatten(architecture.model)

    check()


@pytest.mark.nightly
def test_architectures_vary():
    for wanted in (
        lambda a: a.kind == "mlp" and not a.space.groups,
        lambda a: a.kind == "mlp" and len(a.space.groups) == 3,
        lambda a: a.kind == "perceptron" and not a.model.linears[0].use_bias,
        lambda a: a.kind == "attention" and a.space.groups["heads"] == 3,
    ):
        find(architectures(["mlp", "perceptron", "attention"]), wanted, settings=_QUIET)


def _python(code):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_hypothesis_is_only_needed_here():
    assert hypothesis.__version__  # Installed for the tests, so hide it:
    code = """
        import sys
        sys.modules["hypothesis"] = None
        import wsl
        assert "wsl.testing" not in sys.modules
        try:
            import wsl.testing
        except ImportError as error:
            print(error)
    """
    expected = (
        "wsl.testing needs Hypothesis. Install the extra: pip install -c "
        "constraints.txt -e '.[testing]', from a checkout.\n"
    )
    assert _python(code) == expected
