"""Checkpoints: whole or not taken, and never anything else than they say."""

import hashlib
import io
import json
import zipfile

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, strategies as st

from applications.settings import UserError
from applications.training import (
    load_checkpoint,
    Progress,
    read_checkpoint,
    save_checkpoint,
)


_CONFIG = {"seed": 1, "hidden": [8]}


def _state(seed: int = 0) -> dict:
    key = jr.key(seed)
    return {
        "network": eqx.nn.MLP(2, 1, 4, 1, key=key),
        "key": jr.fold_in(key, 1),
        "keys": jr.split(key, 3),
        "count": jnp.asarray(seed, jnp.int32),
        "half": jr.normal(key, (3,)).astype(jnp.float16),
        "empty": jnp.zeros((0, 2)),
        "flags": jnp.asarray([True, False]),
    }


def _assert_same(a, b) -> None:
    a, b = eqx.filter(a, eqx.is_array), eqx.filter(b, eqx.is_array)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jr.key_data(x), jr.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_round_trip(tmp_path):
    state, progress = _state(5), Progress(7, 2**40, 1.5)
    path = save_checkpoint(tmp_path, state, progress, _CONFIG)
    assert path.name == "00000007.ckpt"
    loaded, loaded_progress, warnings = load_checkpoint(tmp_path, _state(0), _CONFIG)
    _assert_same(loaded, state)
    assert loaded_progress == progress
    assert warnings == []
    # What is not an array, the activation for instance, comes from the likeness.
    assert loaded["network"](jnp.ones(2)) == state["network"](jnp.ones(2))
    with pytest.raises(AssertionError):
        _assert_same(loaded, _state(0))


def test_from_the_form_alone(tmp_path):
    state = _state(5)
    path = save_checkpoint(tmp_path, state, Progress(7), _CONFIG)
    form = eqx.filter_eval_shape(lambda: _state(0))
    assert not any(map(eqx.is_array, jax.tree.leaves(form)))
    loaded = read_checkpoint(path, form, _CONFIG)
    _assert_same(loaded, state)
    assert loaded["network"](jnp.ones(2)) == state["network"](jnp.ones(2))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged"):
        read_checkpoint(path, form, _CONFIG)


def test_without_checkpoints(tmp_path):
    like = _state()
    state, progress, warnings = load_checkpoint(tmp_path, like, _CONFIG)
    assert state is like
    assert progress == Progress()
    assert warnings == []


def test_the_newest_is_taken_and_the_oldest_removed(tmp_path):
    for iteration in (8, 9, 10, 11, 100):
        save_checkpoint(tmp_path, _state(iteration), Progress(iteration), _CONFIG)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["00000010.ckpt", "00000011.ckpt", "00000100.ckpt"]
    state, progress, _ = load_checkpoint(tmp_path, _state(), _CONFIG)
    assert progress.iteration == 100
    _assert_same(state, _state(100))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    directory = tmp_path_factory.mktemp("two")
    save_checkpoint(directory, _state(1), Progress(1), _CONFIG)
    newest = save_checkpoint(directory, _state(2), Progress(2), _CONFIG)
    return directory, newest, newest.read_bytes()


@given(data=st.data())
def test_any_damage_is_noticed(two, data):
    directory, newest, content = two
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        damaged = content[:place]
    else:
        byte = content[place] ^ data.draw(st.integers(1, 255))
        damaged = content[:place] + bytes([byte]) + content[place + 1 :]
    newest.write_bytes(damaged)
    _, progress, warnings = load_checkpoint(directory, _state(), _CONFIG)
    assert progress.iteration == 1
    assert len(warnings) == 1
    assert warnings[0] == (
        f"Checkpoint {newest} is damaged; taking the one of iteration 1."
    )
    aside = newest.with_name(newest.name + ".damaged")
    assert aside.read_bytes() == damaged
    aside.unlink()
    newest.write_bytes(content)
    assert load_checkpoint(directory, _state(), _CONFIG)[1].iteration == 2


def test_all_damaged(tmp_path):
    for iteration in (1, 2):
        path = save_checkpoint(tmp_path, _state(), Progress(iteration), _CONFIG)
        path.write_bytes(b"")
    _, progress, warnings = load_checkpoint(tmp_path, _state(), _CONFIG)
    assert progress == Progress()
    assert [warning.split(" is ")[1] for warning in warnings] == [
        "damaged; taking the start of the run."
    ] * 2
    # They do not come back, nor push new ones out.
    save_checkpoint(tmp_path, _state(), Progress(1), _CONFIG)
    assert load_checkpoint(tmp_path, _state(), _CONFIG)[1:] == (Progress(1), [])


def test_later_leftovers_do_not_push_new_ones_out(tmp_path):
    for iteration in (80, 90, 100):
        (tmp_path / f"{iteration:08d}.ckpt").write_bytes(b"")
    path = save_checkpoint(tmp_path, _state(), Progress(1), _CONFIG)
    assert path.exists()


def test_a_directory_of_that_name_is_no_checkpoint(tmp_path):
    save_checkpoint(tmp_path, _state(1), Progress(1), _CONFIG)
    (tmp_path / "00000009.ckpt").mkdir()
    assert load_checkpoint(tmp_path, _state(), _CONFIG)[1].iteration == 1


def test_other_software_is_said(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, _state(1), Progress(1), _CONFIG)
    monkeypatch.setattr(jax, "__version__", "0.0.1")
    _, progress, notes = load_checkpoint(tmp_path, _state(), _CONFIG)
    assert progress.iteration == 1
    assert "this is {'jax': '0.0.1'" in notes[0]


def test_another_config(tmp_path):
    save_checkpoint(tmp_path, _state(), Progress(1), _CONFIG)
    with pytest.raises(UserError, match=r"it has seed=1, this run has 2"):
        load_checkpoint(tmp_path, _state(), _CONFIG | {"seed": 2})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"half": jnp.zeros((4,), jnp.float16)}, r"float16\(3,\) for \['half'\]"),
        ({"count": jnp.zeros((), jnp.float32)}, r"int32\(\) for \['count'\]"),
        ({"more": jnp.zeros(1)}, r"holds nothing for \['more'\]"),
    ],
)
def test_another_form(tmp_path, change, message):
    save_checkpoint(tmp_path, _state(), Progress(1), _CONFIG)
    with pytest.raises(UserError, match=message):
        load_checkpoint(tmp_path, _state() | change, _CONFIG)


class _Trap:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_never_unpickles(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, metadata=np.asarray([_Trap()], dtype=object))
    payload = buffer.getvalue()
    digest = hashlib.sha256(payload).hexdigest().encode()
    content = b"wsl-checkpoint 1 " + digest + b"\n" + payload
    (tmp_path / "00000001.ckpt").write_bytes(content)
    with pytest.raises(UserError, match="metadata is no text"):
        load_checkpoint(tmp_path, _state(), _CONFIG)


def _large(seed: int) -> dict:
    """Five blocks, the last one not full, and a small array."""
    values = np.random.default_rng(0).normal(size=(9, 1 << 16)).astype(np.float32)
    values[3] = seed
    return {"replay": jnp.asarray(values), "count": jnp.asarray(seed), "host": values}


def test_checkpoints_share_the_blocks_of_large_arrays(tmp_path, monkeypatch):
    monkeypatch.setattr("applications.training.storage._blocks.LARGE", 1 << 20)
    blocks = tmp_path / "blocks"
    names = []
    for seed in (1, 2):
        path = save_checkpoint(tmp_path, _large(seed), Progress(seed), _CONFIG)
        names.append({block.name for block in blocks.iterdir()})
        # The arrays are not in the file itself.
        assert path.stat().st_size < 10_000
    # Nine quarters of a megabyte are three blocks; one of them has changed.
    assert len(names[0]) == 3 and len(names[1]) == 4
    loaded, _, notes = load_checkpoint(tmp_path, _large(0), _CONFIG)
    assert notes == []
    for name in ("replay", "host"):
        expected = np.asarray(_large(2)[name])
        assert np.asarray(loaded[name]).tobytes() == expected.tobytes()
    # NumPy's arrays stay such, and can be written to.
    assert isinstance(loaded["host"], np.ndarray) and loaded["host"].flags.writeable
    # What no checkpoint has any more is removed.
    save_checkpoint(tmp_path, _large(2), Progress(3), _CONFIG, keep=1)
    assert {block.name for block in blocks.iterdir()} < names[1]
    # Without a block of its own, a checkpoint is damaged, and the one before counts.
    save_checkpoint(tmp_path, _large(4), Progress(4), _CONFIG)
    (new,) = {block.name for block in blocks.iterdir()} - names[1]
    (blocks / new).write_bytes(b"")
    loaded, progress, notes = load_checkpoint(tmp_path, _large(0), _CONFIG)
    assert progress.iteration == 3 and loaded["count"] == 2
    assert len(notes) == 1 and "damaged" in notes[0]


def test_small_arrays_make_no_blocks(tmp_path):
    save_checkpoint(tmp_path, _state(), Progress(1), _CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["00000001.ckpt"]


def _signed(path, write):
    """A file with a right checksum over whatever is written."""
    buffer = io.BytesIO()
    write(buffer)
    payload = buffer.getvalue()
    digest = hashlib.sha256(payload).hexdigest().encode()
    path.write_bytes(b"wsl-checkpoint 1 " + digest + b"\n" + payload)


def _crafted(change):
    """Writes a checkpoint's members after a change of them."""

    def craft(path):
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content[content.index(b"\n") + 1 :])) as old:
            members = {name: old.read(name) for name in old.namelist()}
        change(members)

        def write(buffer):
            with zipfile.ZipFile(buffer, "w") as archive:
                for name, member in members.items():
                    archive.writestr(name, member)

        _signed(path, write)

    return craft


def _npy(array) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array))
    return buffer.getvalue()


def _compress(path):
    """A bomb: a gigabyte of zeros in a megabyte."""

    def write(buffer):
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("metadata.npy", bytes(1 << 20))

    _signed(path, write)


def _metadata(**changes):
    def change(members):
        array = np.load(io.BytesIO(members["metadata.npy"]))
        content = json.loads(str(array)) | changes
        members["metadata.npy"] = _npy(json.dumps(content))

    return _crafted(change)


@pytest.mark.parametrize(
    "craft, message",
    [
        (lambda path: _signed(path, lambda buffer: None), "File is not a zip file"),
        (_compress, "metadata.npy is compressed"),
        (_crafted(lambda members: members.pop("metadata.npy")), "metadata.npy"),
        (
            _crafted(lambda members: members.update({"x.npy": _npy([1.0])})),
            "it also holds x",
        ),
        (
            _crafted(lambda members: members.update({"metadata.npy": _npy([1])})),
            "metadata is no text",
        ),
        (
            _crafted(lambda members: members.update({"metadata.npy": _npy("[]")})),
            "no checkpoint of this program",
        ),
        (
            _crafted(lambda members: members.update({"metadata.npy": _npy("[" * 9)})),
            "no checkpoint of this program",
        ),
        (_metadata(progress={"iteration": "7"}), "--iteration must be of type int"),
        (_metadata(progress={"iteration": 7, "x": 1}), "Unknown settings: x"),
        (_metadata(config=None), "no checkpoint of this program"),
    ],
)
def test_crafted_ones_with_a_right_checksum(tmp_path, craft, message):
    path = save_checkpoint(tmp_path, _state(1), Progress(1), _CONFIG)
    craft(path)
    with pytest.raises(UserError, match=message) as caught:
        load_checkpoint(tmp_path, _state(), _CONFIG)
    assert len(str(caught.value).splitlines()) == 1
    # What is not damaged is not set aside: it may be of a later version.
    assert path.exists()


def test_a_size_that_a_header_claims_is_not_allocated(tmp_path):
    path = save_checkpoint(tmp_path, _state(1), Progress(1), _CONFIG)

    def claim(members):
        name = next(name for name in members if "half" in name)
        members[name] = members[name].replace(b"(3,), }      ", b"(3000000000,), }")

    _crafted(claim)(path)
    with pytest.raises(UserError, match=r"it holds float16\(3000000000,\) for"):
        load_checkpoint(tmp_path, _state(), _CONFIG)


def test_another_mode_of_jax_is_named(tmp_path):
    path = save_checkpoint(tmp_path, {"x": jnp.zeros(2)}, Progress(1), _CONFIG)
    like = {"x": jax.ShapeDtypeStruct((2,), np.dtype("float64"))}
    with pytest.raises(UserError, match="Is JAX_ENABLE_X64 as it was"):
        read_checkpoint(path, like, _CONFIG)
