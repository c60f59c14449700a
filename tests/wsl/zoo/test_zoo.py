"""The container: splits, groups, batches."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsl.zoo import Zoo
from wsl.zoo._zoo import split_by_order


def _stack(width, values):
    """Networks of one weight each, repeated, so that they can be told apart."""
    linear = eqx.nn.Linear(1, width, use_bias=False, key=jax.random.key(0))
    numbers = jnp.asarray(values, jnp.float32)
    return eqx.tree_at(
        lambda x: x.weight,
        linear,
        jnp.broadcast_to(numbers[:, None, None], (len(values), width, 1)),
    )


def _zoo():
    parts = ["train", "test", "train", "validation", "train", "test", "out_of_range"]
    values = np.arange(7)
    return Zoo(
        (_stack(2, values[:4]), _stack(3, values[4:])),
        {"value": values, "pair": np.stack([values, -values], axis=1)},
        np.asarray(parts),
        {"points": np.zeros((5, 1))},
    )


def _values(networks):
    return np.asarray(networks.weight)[:, 0, 0].tolist()


def test_length_and_summary():
    assert len(_zoo()) == 7
    text = repr(_zoo())
    for words in ("7 networks in 2 groups", "test 2", "train 3", "value, pair"):
        assert words in text


def test_split_across_groups():
    train = _zoo().split("train")
    assert len(train) == 3
    assert [_values(group) for group in train.groups] == [[0, 2], [4]]
    np.testing.assert_array_equal(train.labels["value"], [0, 2, 4])
    np.testing.assert_array_equal(train.labels["pair"][:, 1], [0, -2, -4])
    assert set(train.parts) == {"train"}
    assert train.data is not None and train.data["points"].shape == (5, 1)


def test_split_drops_groups_without_networks():
    validation = _zoo().split("validation")
    assert _values(validation.networks) == [3]
    assert validation.networks.weight.shape == (1, 2, 1)


def test_several_splits_together():
    both = _zoo().split("validation", "train")
    np.testing.assert_array_equal(both.labels["value"], [0, 2, 3, 4])
    assert both.parts.tolist() == ["train", "train", "validation", "train"]


def test_splits_that_are_not_there():
    with pytest.raises(ValueError, match="in split 'tset'; splits: .*'test'"):
        _zoo().split("train", "tset")
    with pytest.raises(ValueError, match=r"splits: \['train'\]"):
        _zoo().split("train").split("test")


def test_networks_of_several_architectures():
    with pytest.raises(ValueError, match="2 architectures.*`groups`"):
        _ = _zoo().networks


def test_one_zoo_for_each_architecture():
    narrow, wide = _zoo().by_architecture()
    assert _values(narrow.networks) == [0, 1, 2, 3]
    assert _values(wide.networks) == [4, 5, 6]
    np.testing.assert_array_equal(wide.labels["pair"][:, 1], [-4, -5, -6])
    assert wide.parts.tolist() == ["train", "test", "out_of_range"]


def test_arrays_are_what_vmap_takes():
    answers = eqx.filter_vmap(lambda x: x(jnp.ones(1)))(_zoo().split("test").groups[0])
    np.testing.assert_array_equal(answers, [[1, 1]])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_batches_give_each_network_once(batch_size):
    zoo, seen = _zoo(), []
    for networks, labels in zoo.batches(batch_size, key=jax.random.key(0)):
        assert set(labels) == {"value", "pair"}
        # One architecture, and the labels that belong to it.
        assert networks.weight.shape[1] == (2 if labels["value"][0] < 4 else 3)
        assert _values(networks) == labels["value"].tolist()
        assert 1 <= len(labels["value"]) <= batch_size
        seen += labels["value"].tolist()
    assert sorted(seen) == list(range(7))


def test_batches_are_as_large_as_can_be():
    sizes = [len(y["value"]) for _, y in _zoo().batches(3, key=jax.random.key(0))]
    assert sorted(sizes) == [1, 3, 3]


def _order(key):
    return [y["value"][0] for _, y in _zoo().batches(1, key=key)]


def test_batches_are_in_the_order_of_the_key():
    assert _order(jax.random.key(0)) == _order(jax.random.key(0))
    orders = {tuple(_order(jax.random.key(i))) for i in range(5)}
    assert len(orders) == 5
    # Batches of the two groups come mixed: some early one is of the second group.
    assert any(max(order[:3]) >= 4 for order in orders)


def test_batch_size_must_be_positive():
    with pytest.raises(ValueError, match="`batch_size` must be positive"):
        _zoo().batches(0, key=jax.random.key(0))


def test_labels_must_fit():
    with pytest.raises(ValueError, match=r"another number of entries: \['b'\]"):
        Zoo(
            (_stack(2, [1, 2]),),
            {"a": np.zeros(2), "b": np.zeros(3)},
            np.asarray(["train", "test"]),
        )
    with pytest.raises(ValueError, match="There are 2 networks, 3 entries"):
        Zoo((_stack(2, [1, 2]),), {}, np.asarray(["train"] * 3))


def test_split_by_order():
    names, counts = np.unique(split_by_order(500), return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "train": 350,
        "validation": 50,
        "test": 100,
        "out_of_range": 100,
    }
    assert split_by_order(10).tolist() == (
        ["train"] * 7 + ["validation"] + ["test"] * 2 + ["out_of_range"] * 2
    )
    with pytest.raises(ValueError, match="must be 10 or more"):
        split_by_order(9)
