"""The program that tries faults: it must see what it is to find."""

import errno
import io
import json
import os
import random
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from applications.training import write_atomically, write_json
from benchmarks.faults import Tally
from benchmarks.faults._damage import craft, damage, signed_checkpoint, signed_policy
from benchmarks.faults._flags import flags_of, OTHERS
from benchmarks.faults._operations import watched
from benchmarks.faults._tally import table


def _operations(root, action) -> list[str]:
    """What an action does to files under a directory."""
    done = []
    with watched(root, done.append):
        action()
    return [what.split()[0] for what in done]


def test_every_operation_is_seen(tmp_path):
    write = lambda: write_json(tmp_path / "file", {"a": 1})
    # A write in two halves; file and directory are synced.
    expected = ["open", "write", "write", "flush", "fsync", "replace", "fsync"]
    assert _operations(tmp_path, write) == expected
    assert _operations(tmp_path / "elsewhere", write) == []
    assert _operations(tmp_path, lambda: (tmp_path / "file").read_bytes()) == []
    assert _operations(tmp_path, (tmp_path / "file").unlink) == ["unlink"]


def _write(path, content) -> None:
    write_atomically(path, lambda file: file.write(content))


def _write_in_place(path, content) -> None:
    with open(path, "wb") as file:
        file.write(content)


def _states(path, write) -> set[bytes]:
    """What a file is before each operation that writes it anew."""
    path.write_bytes(b"old and whole")
    found = set()
    with watched(path.parent, lambda _: found.add(path.read_bytes())):
        write(path, b"new and whole")
    return found | {path.read_bytes()}


def test_a_crash_at_any_moment_leaves_a_whole_file(tmp_path):
    assert _states(tmp_path / "a", _write) == {b"old and whole", b"new and whole"}
    assert len(_states(tmp_path / "a", _write_in_place)) > 2  # control


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_an_error_at_any_moment_leaves_a_whole_file(tmp_path, number):
    path = tmp_path / "a"
    for fatal in range(7):
        path.write_bytes(b"old and whole")
        passed = 0

        def fail(_: str, fatal: int = fatal) -> None:
            nonlocal passed
            passed += 1
            if passed > fatal:
                raise OSError(number, os.strerror(number))

        with pytest.raises(OSError), watched(tmp_path, fail):
            _write(path, b"new and whole")
        # The last operation is the directory's sync, after the rename.
        assert path.read_bytes() == (b"new" if fatal == 6 else b"old") + b" and whole"


def test_damages_are_of_all_kinds():
    moments, content = random.Random(0), bytes(range(200))
    made = [damage(content, moments) for _ in range(300)]
    lengths = {len(one) for one in made}
    assert {0, 200} < lengths and max(lengths) > 200
    assert sum(one != content for one in made) > 280
    assert damage(b"", moments) is not None


def test_what_is_crafted_has_a_right_checksum():
    moments = random.Random(1)
    body = b'{"task": "lqr", "options": {"hidden": [4]}}\n\x00\x01'
    policy = b'{"format": "wsl-policy 2", "sha256": ""}\n' + body
    buffer = io.BytesIO()
    metadata = np.asarray(json.dumps({"progress": {"iteration": 1}}))
    np.savez(buffer, metadata=metadata, x=np.ones(3))
    checkpoint = b"wsl-checkpoint 1 0\n" + buffer.getvalue()
    for _ in range(50):
        first, rest = signed_policy(policy, moments).split(b"\n", 1)
        assert json.loads(first)["sha256"] == sha256(rest).hexdigest()
        first, rest = signed_checkpoint(checkpoint, moments).split(b"\n", 1)
        assert first == b"wsl-checkpoint 1 " + sha256(rest).hexdigest().encode()
    assert len({repr(craft({"a": {"b": 1}}, moments)) for _ in range(50)}) > 10


def test_the_table():
    found = [Tally("kills", 1000, [], "a note"), Tally("flags", 20, ["x", "y"])]
    assert table(found).splitlines()[2:] == [
        "| kills | 1,000 | 0 | a note |",
        "| flags | 20 | 2 |  |",
    ]


def test_every_command_with_flags_is_tried():
    root = Path(__file__).parents[2]
    guarded = {
        ".".join(path.relative_to(root).with_suffix("").parts)
        for top in ("applications", "benchmarks/zoo")
        for path in (root / top).rglob("*.py")
        if "\n@exit_on_user_error\ndef main" in path.read_text()
    }
    trainers = {name for name in guarded if name.endswith(".train")}
    assert guarded - trainers == OTHERS.keys()


def test_every_flag_of_a_command_is_tried():
    assert flags_of("applications.gogepo.generate") == [
        *("--command", "--extrapolate", "--out", "--seed"),
    ]
    assert "--learning-rate" in flags_of("benchmarks.zoo.__main__")
    assert all(len(flags_of(name)) > 0 for name in OTHERS)
