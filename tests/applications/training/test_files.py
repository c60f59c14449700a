"""Files that are there whole or not at all, and what killed writers leave."""

import concurrent.futures
import json
import os
import threading
from pathlib import Path

import pytest

from applications.settings import UserError
from applications.training import (
    check_output,
    Manifest,
    Run,
    write_atomically,
    write_json,
)


def test_a_link_in_place_of_a_temporary_file_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".file.tmp").symlink_to(victim)
    write_json(tmp_path / "file", 1)
    assert victim.read_text() == "precious"
    assert (tmp_path / "file").read_text() == "1\n"


def test_two_writers_at_once_leave_one_whole_file(tmp_path):
    path, others = tmp_path / "file", threading.Barrier(2)

    def write(letter: bytes) -> None:
        def slowly(file):
            file.write(letter * 100)
            others.wait()
            file.write(letter * 100)

        write_atomically(path, slowly)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (b"a", b"b")))
    assert path.read_bytes() in (b"a" * 200, b"b" * 200)
    assert list(tmp_path.iterdir()) == [path]


def test_json_has_no_literal_that_json_does_not_know(tmp_path):
    write_json(tmp_path / "file", {"a": [float("nan"), (float("inf"), 1.5)]})
    assert json.loads((tmp_path / "file").read_text()) == {"a": [None, [None, 1.5]]}


def test_what_killed_writers_left_goes(tmp_path):
    run = Run.create(tmp_path / "run", Manifest("toy", {}))
    run.snapshots.mkdir()
    left = [
        *(
            run.directory / f".{name}.0a1b.tmp"
            for name in ("config.json", "policy.eqx")
        ),
        *(folder / ".00000004.ckpt.0a1b.tmp" for folder in (run.checkpoints,)),
        run.snapshots / ".00000004.ckpt.tmp",
    ]
    # Of commands that may be at work just now.
    stay = [run.directory / ".policy-5.eqx.0a1b.tmp", run.checkpoints / "00000004.ckpt"]
    for path in (*left, *stay):
        path.write_bytes(b"wsl-check")
    with run.locked():
        assert not any(path.exists() for path in left)
    assert all(path.exists() for path in stay)


def test_what_killed_creations_left_goes(tmp_path):
    def leave(name: str, *, old: bool, more: str = "") -> Path:
        path = tmp_path / name
        (path / "checkpoints").mkdir(parents=True)
        for file in ("config.json", ".config.json.1.tmp", more):
            if file:
                (path / file).write_text("{}")
        if old:
            os.utime(path, (0, 0))
        return path

    killed, bare = leave(".run-killed12", old=True), tmp_path / ".run-bare1234"
    bare.mkdir()
    os.utime(bare, (0, 0))
    young = leave(".run-young123", old=False)
    foreign = leave(".run-foreign1", old=True, more="thesis.txt")
    link = tmp_path / ".run-linked12"
    link.symlink_to(leave("another", old=True))
    Run.create(tmp_path / "run", Manifest("toy", {}))
    assert not killed.exists() and not bare.exists()
    assert (young / "config.json").exists() and (foreign / "thesis.txt").exists()
    assert (link / "config.json").exists()


def test_a_place_that_is_taken_by_no_run(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"exists\. Choose another --run-dir\.$"):
        Run.create(tmp_path / "file", Manifest("toy", {}))


def test_places_for_output(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    check_output(tmp_path / "new" / "deep" / "x.png", "--out")
    check_output(Path("x.png"), "--out")
    for path, message in (
        (tmp_path, "is a directory; name a file"),
        (tmp_path / "file" / "x.png", "file is no directory"),
    ):
        with pytest.raises(UserError, match=message):
            check_output(path, "--out")
    # Tests may be run by one who can write everywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="which cannot be written to"):
        check_output(tmp_path / "x.png", "--out")
