"""Zoos of one's own, from folders of files."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import wsl.zoo
from tests.wsl.helpers import array, call
from wsl.interop.files import load, save


def _fill(folder, number=5):
    for i in range(number):
        weights = {
            "w": np.full((2, 3), i, np.float32),
            "b": np.asarray([i, -i], np.float32),
        }
        save(weights, folder / f"net{i}.npz")


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_files_keep_names_and_numbers(tmp_path, suffix):
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    weights = {"a.weight": array([[1.0, 2.0]]), "b": np.asarray([3], np.int32)}
    save(weights, tmp_path / f"x.{suffix}")
    found = load(tmp_path / f"x.{suffix}")
    assert sorted(found) == ["a.weight", "b"]
    assert [path.name for path in tmp_path.iterdir()] == [f"x.{suffix}"]
    np.testing.assert_array_equal(found["a.weight"], [[1, 2]])
    assert found["b"].dtype == np.int32
    with pytest.raises(ValueError, match="no file of weights"):
        load(tmp_path / "x.pt")
    with pytest.raises(ValueError, match="no file of weights"):
        save(weights, tmp_path / "x.pt")


def test_half_precision_is_kept_or_refused(tmp_path):
    weights = {"w": array([[1.5, -2.0]]).astype(jnp.bfloat16)}
    with pytest.raises(ValueError, match="no bfloat16"):
        save(weights, tmp_path / "x.npz")
    assert not list(tmp_path.iterdir())
    pytest.importorskip("safetensors")
    save(weights, tmp_path / "x.safetensors")
    found = load(tmp_path / "x.safetensors")["w"]
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found.astype(jnp.float32), [[1.5, -2.0]])


def test_a_folder_and_its_table(tmp_path):
    _fill(tmp_path)
    table = tmp_path / "labels.csv"
    table.write_text(
        "file,accuracy,epochs,name,split\n"
        "net3.npz,0.5,3,c,test\nnet0.npz,0.25,1,a,train\nnet4.npz,0.75,9,d,train\n"
    )
    zoo = wsl.zoo.from_files(tmp_path, table)
    assert len(zoo) == 3 and "train 2" in repr(zoo)
    assert zoo.labels["accuracy"].tolist() == [0.5, 0.25, 0.75]
    assert zoo.labels["epochs"].dtype.kind == "i"
    assert zoo.labels["name"].tolist() == ["c", "a", "d"]
    train = zoo.split("train")
    seen = []
    for networks, labels in train.batches(1, key=jr.key(0)):
        assert networks["w"].shape == (1, 2, 3)
        assert networks["b"][0, 0] == {0.25: 0, 0.75: 4}[float(labels["accuracy"][0])]
        seen.append(int(networks["b"][0, 0]))
    assert sorted(seen) == [0, 4]
    assert zoo.take([2, 0])["b"].tolist() == [[4, -4], [3, -3]]
    with pytest.raises(ValueError, match="No network is in split"):
        zoo.split("validation")


def test_only_what_is_asked_for_is_read(tmp_path):
    _fill(tmp_path)
    zoo = wsl.zoo.from_files(tmp_path)
    for i in range(1, 5):
        (tmp_path / f"net{i}.npz").write_bytes(b"broken")
    np.testing.assert_array_equal(zoo.network(0)["b"], [0, 0])
    batches = wsl.zoo.from_files(tmp_path).batches(2, key=jr.key(0))
    with pytest.raises(Exception, match=r"."):
        list(batches)


def test_networks_as_modules(tmp_path):
    model = eqx.nn.MLP(2, 1, 3, 1, key=jr.key(0))
    named = jtu.tree_leaves_with_path(eqx.filter(model, eqx.is_array))
    save({jtu.keystr(path): x for path, x in named}, tmp_path / "a.npz")
    again = wsl.zoo.from_files(tmp_path, like=model).network(0)
    x = array([0.5, -1.0])
    np.testing.assert_array_equal(call(again, x), call(model, x))
    stacked = wsl.zoo.from_files(tmp_path, like=model).take([0, 0])
    assert stacked.layers[0].weight.shape == (2, 3, 2)
    assert stacked.activation is model.activation
    other = eqx.nn.MLP(2, 1, 4, 1, key=jr.key(0))
    with pytest.raises(ValueError, match=r"\.layers\[0\]\.weight"):
        wsl.zoo.from_files(tmp_path, like=other).network(0)


def test_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="There are no"):
        wsl.zoo.from_files(tmp_path)
    _fill(tmp_path, 1)
    table = tmp_path / "labels.csv"
    table.write_text("file,y\nnet9.npz,1\n")
    with pytest.raises(ValueError, match="names files that are not there"):
        wsl.zoo.from_files(tmp_path, table)
    table.write_text("name,y\nnet0.npz,1\n")
    with pytest.raises(ValueError, match="no column `file`"):
        wsl.zoo.from_files(tmp_path, table)
