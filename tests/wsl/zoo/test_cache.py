"""Zoos on disk: read back as they were, made anew where they cannot be."""

import dataclasses
import io
import os
import pathlib
import zipfile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wsl.zoo import _cache, Zoo
from wsl.zoo._digits_inrs import make_digits_inrs, Settings


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("WSL_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


def _template(width=3):
    return eqx.nn.MLP(1, 1, width, 1, jax.nn.relu, key=jax.random.key(0))


class Maker:
    """Makes a zoo of two networks, and counts how often."""

    def __init__(self, width=3):
        self.width = width
        self.times = 0

    def __call__(self):
        self.times += 1
        group = jax.tree.map(
            lambda x: jnp.stack([x, 2 * x]) if eqx.is_array(x) else x,
            _template(self.width),
        )
        labels = {"digit": np.asarray([3, 4]), "loss": np.asarray([0.5, 1.5])}
        data = {"points": np.zeros((4, 1), np.float32)}
        return Zoo((group,), labels, np.asarray(["train", "test"]), data)


def _get(maker, *, settings=None, cache=True, width=3):
    return _cache.cached(
        "things", settings or {"a": 1}, lambda: (_template(width),), maker, cache=cache
    )


def _assert_same(first, second):
    assert jax.tree.structure(first.groups) == jax.tree.structure(second.groups)
    for x, y in zip(
        jax.tree.leaves(eqx.filter(first.groups, eqx.is_array)),
        jax.tree.leaves(eqx.filter(second.groups, eqx.is_array)),
        strict=True,
    ):
        assert isinstance(y, jax.Array) and x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)
    for found, expected in ((first.labels, second.labels), (first.data, second.data)):
        assert found.keys() == expected.keys()
        for name in found:
            assert found[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(found[name], expected[name])
    np.testing.assert_array_equal(first.parts, second.parts)


def test_second_time_is_read(directory):
    maker = Maker()
    first, second = _get(maker), _get(maker)
    assert maker.times == 1
    _assert_same(first, second)
    # And it runs.
    answers = eqx.filter_vmap(lambda x: x(jnp.ones(1)))(second.networks)
    np.testing.assert_array_equal(
        answers, eqx.filter_vmap(lambda x: x(jnp.ones(1)))(first.networks)
    )
    # One whole file, nothing temporary beside it.
    (file,) = directory.iterdir()
    assert file.name.startswith("things-") and file.suffix == ".npz"


def test_other_settings_have_a_file_of_their_own(directory):
    maker = Maker()
    _get(maker, settings={"a": 1})
    _get(maker, settings={"a": 2})
    assert maker.times == 2
    assert len(list(directory.iterdir())) == 2


def test_another_format_is_made_anew(monkeypatch):
    maker = Maker()
    _get(maker)
    monkeypatch.setattr(_cache, "FORMAT", _cache.FORMAT + 1)
    _get(maker)
    assert maker.times == 2


def test_without_cache_the_disk_is_left_alone(directory):
    maker = Maker()
    _get(maker, cache=False)
    assert not directory.exists()
    _get(maker)
    _get(maker, cache=False)
    assert maker.times == 3


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def _flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[content.find(np.float64(1.5).tobytes())] ^= 1
    path.write_bytes(content)


def _empty(path):
    path.write_bytes(b"")


def _write_text(path):
    path.write_text("not a zoo")


def _rewrite(path, **changes):
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{k: x for k, x in (arrays | changes).items() if x is not None})


def _drop_a_leaf(path):
    _rewrite(path, **{"network.0.0": None})


def _other_settings(path):
    _rewrite(path, settings=np.asarray("{}"))


def _other_shape(path):
    _rewrite(path, **{"network.0.0": np.zeros((2, 5, 1), np.float32)})


def _other_precision(path):
    _rewrite(path, **{"network.0.0": np.zeros((2, 3, 1), np.float64)})


def _other_length(path):
    _rewrite(path, parts=np.asarray(["train"]))


def _pickle(path):
    _rewrite(path, parts=np.asarray(["train", None], dtype=object))


def _flip_in_a_zip_header(path):
    """Gives its first member a compression method that nobody knows."""
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\x01\x02") + 10] = 99
    path.write_bytes(content)


def _of_header(shape):
    """Gives an array a header that asks for more memory than there is, or is none."""

    def damage(path):
        with np.load(path) as file:
            arrays = dict(file)
        with zipfile.ZipFile(path, "w") as archive:
            for name, array in arrays.items():
                stream = io.BytesIO()
                np.lib.format.write_array(stream, array)
                content = stream.getvalue()
                if name == "parts":
                    text = (
                        f"{{'descr': '<U5', 'fortran_order': False, 'shape': {shape}}}"
                    )
                    header = text.ljust(117).encode() + b"\n"
                    content = b"\x93NUMPY\x01\x00\x76\x00" + header + content[128:]
                archive.writestr(f"{name}.npy", content)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        _flip_in_a_zip_header,
        _of_header("(40000000000000000,)"),
        _of_header("(1000000000000000000000000000000,)"),
        _of_header("(2"),
        _truncate,
        _flip_a_bit,
        _empty,
        _write_text,
        _drop_a_leaf,
        _other_settings,
        _other_shape,
        _other_precision,
        _other_length,
        _pickle,
    ],
)
def test_a_damaged_file_is_made_anew(damage, directory):
    maker = Maker()
    first = _get(maker)
    (path,) = directory.iterdir()
    damage(path)
    second = _get(maker)
    assert maker.times == 2
    _assert_same(first, second)
    # What replaced it is whole.
    _assert_same(first, _get(maker))
    assert maker.times == 2


def test_a_file_that_cannot_be_written(directory, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.warns(UserWarning, match="no space left.*Set WSL_CACHE"):
        zoo = _get(Maker())
    assert len(zoo) == 2
    assert list(directory.iterdir()) == []


def test_without_a_home(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("WSL_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pathlib.Path, "home", no_home)
    with pytest.warns(UserWarning, match="home directory.*Set WSL_CACHE"):
        assert len(_get(Maker())) == 2


def test_what_a_killed_process_left_goes(directory):
    directory.mkdir(parents=True)
    _get(Maker())
    (path,) = directory.iterdir()
    path.unlink()
    old, young = (directory / f".{path.name}.{age}.tmp" for age in ("old", "young"))
    for left in (old, young, directory / "another's.tmp"):
        left.write_bytes(b"half of it")
    os.utime(old, (0, 0))
    _get(Maker())
    assert not old.exists()
    assert {left.name for left in directory.iterdir()} == {
        *(path.name, young.name, "another's.tmp"),
    }


def test_an_interrupted_write_leaves_nothing(directory, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _get(Maker())
    assert list(directory.iterdir()) == []


def test_where_the_cache_is(monkeypatch):
    monkeypatch.setenv("WSL_CACHE", "/a/b")
    assert _cache.cache_directory() == pathlib.Path("/a/b")
    monkeypatch.delenv("WSL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert _cache.cache_directory() == pathlib.Path("/x/wsl")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert _cache.cache_directory() == pathlib.Path("/home/someone/.cache/wsl")


def test_every_setting_of_a_maker_counts(directory):
    settings = Settings(1, "independent", False, 0, steps=1, num_images=(1, 1, 1))
    first = make_digits_inrs(settings, cache=True)
    _assert_same(first, make_digits_inrs(settings, cache=True))
    assert len(list(directory.iterdir())) == 1
    make_digits_inrs(dataclasses.replace(settings, seed=1), cache=True)
    make_digits_inrs(dataclasses.replace(settings, recipe=-1), cache=True)
    assert len(list(directory.iterdir())) == 3
