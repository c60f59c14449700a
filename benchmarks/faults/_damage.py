"""Files of a finished run, damaged in every way, and crafted with a right checksum."""

import contextlib
import hashlib
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.faults._cases import CASES, differences
from benchmarks.faults._forks import start, wait
from benchmarks.faults._tally import Tally


# What JAX has compiled is let go of now and then.
_COMPILED = 40


def damage(content: bytes, moments: random.Random) -> bytes:
    """Damages bytes in one of the ways in which files come to harm."""
    place = moments.randrange(len(content) + 1)
    other = moments.randrange(len(content) + 1)
    low, high = min(place, other), max(place, other)
    noise = moments.randbytes(moments.randint(1, 40))
    ways = (
        lambda: content[:place],
        lambda: content[:place] + noise + content[place:],
        lambda: content[:place] + noise + content[place + len(noise) :],
        lambda: content[:low] + content[high:],
        lambda: content[:low] + bytes(high - low) + content[high:],
        lambda: content[:high] + content[low:high] + content[high:],
        lambda: noise,
        lambda: b"",
    )
    if content and moments.random() < 0.4:
        at = min(place, len(content) - 1)
        bit = bytes([content[at] ^ (1 << moments.randrange(8))])
        return content[:at] + bit + content[at + 1 :]
    return moments.choice(ways)()


def craft(value: Any, moments: random.Random) -> Any:
    """Puts something absurd somewhere into JSON."""
    absurd = [
        *(None, True, -1, 0, 10**30, 2**31, 1e300, float("nan"), "", "x", [], {}),
        *([[4]], [1] * 5000, {"a": {}}, "9" * 400),
    ]
    if isinstance(value, dict) and value and moments.random() < 0.9:
        name = moments.choice(sorted(value))
        if moments.random() < 0.1:
            return {k: v for k, v in value.items() if k != name}
        return value | {name: craft(value[name], moments)}
    return moments.choice(absurd)


def signed_policy(content: bytes, moments: random.Random) -> bytes:
    """A policy file with an absurd header, or other weights, and a right checksum."""
    first, body = content.split(b"\n", 1)
    header, weights = body.split(b"\n", 1)
    if moments.random() < 0.2:
        weights = damage(weights, moments)
    else:
        header = json.dumps(craft(json.loads(header), moments)).encode()
    body = header + b"\n" + weights
    checksum = {"sha256": hashlib.sha256(body).hexdigest()}
    return json.dumps(json.loads(first) | checksum).encode() + b"\n" + body


def signed_checkpoint(content: bytes, moments: random.Random) -> bytes:
    """A checkpoint with something absurd inside and a right checksum."""
    header, payload = content.split(b"\n", 1)
    if moments.random() < 0.5:
        payload = damage(payload, moments)
    else:
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            arrays = dict(archive)
        name = moments.choice(sorted(arrays))
        if name == "metadata" or moments.random() < 0.5:
            made = craft(json.loads(str(arrays["metadata"])), moments)
            arrays["metadata"] = np.asarray(json.dumps(made))
        else:
            arrays[name] = moments.choice(
                [np.zeros(3), arrays[name].astype("U9"), np.zeros((2**20,), np.int8)]
            )
        buffer = io.BytesIO()
        save = moments.choice([np.savez, np.savez_compressed])
        save(buffer, allow_pickle=False, **arrays)
        payload = buffer.getvalue()
    magic = b" ".join(header.split(b" ")[:2])
    return magic + b" " + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


Change = Callable[[bytes, random.Random], bytes]
# File, how it is changed, and whether a checksum could have caught the change.
KINDS: dict[str, tuple[str, Change, bool]] = {
    "damaged checkpoints": ("checkpoints/*.ckpt", damage, True),
    "damaged metrics.jsonl": ("metrics.jsonl", damage, True),
    "damaged config.json": ("config.json", damage, False),
    "damaged policy.eqx": ("policy.eqx", damage, True),
    "damaged snapshots": ("snapshots/*.ckpt", damage, True),
    "crafted policy.eqx": ("policy.eqx", signed_policy, False),
    "crafted checkpoints": ("checkpoints/*.ckpt", signed_checkpoint, False),
    "damaged files of a zoo": ("*.npz", damage, True),
}


def damaged_files(kind: str, count: int, work: Path, seed: int) -> Tally:
    """Reads damaged files as a user would.

    Args:
        kind: One of `KINDS`.
        count: How many.
        work: An empty directory.
        seed: Seed of the damages.

    Returns:
        The tally. Bad is a traceback, more than one line of error, and a change that
        was taken without a word though it made a difference.
    """
    tally = Tally(kind)
    found = work / "found.json"
    if "zoo" in kind:
        action = lambda: _zoos(count, work, seed, found)
    else:
        case = CASES["gogepo" if "snapshots" in kind else "epvf"]
        reference, _ = case.reference(work)
        action = lambda: _reads(kind, reference, count, work, seed, found)
    code = wait(start(action, work / "reader.log"), seconds=24 * 3600.0)
    if code:
        tally.bad.append(f"the reader ended with {code}: {work / 'reader.log'}")
        return tally
    result = json.loads(found.read_text())
    tally.tried, tally.bad = count, result["bad"]
    told = result["outcomes"]
    tally.note = ", ".join(
        f"{number} {name}" for name, number in told.items() if number
    )
    return tally


def _reads(
    kind: str, reference: Path, count: int, work: Path, seed: int, found: Path
) -> int:
    """In a process of its own: damages files and reads them, again and again."""
    from applications import evaluate
    from applications.epvf import train
    from applications.gogepo import generate

    pattern, change, checked = KINDS[kind]
    moments = random.Random(f"{kind}{seed}")
    outcomes = {"the same": 0, "said and mended": 0, "refused": 0, "accepted": 0}
    bad = []

    def read(copy: Path) -> tuple[int, str, str]:
        if "policy" in kind:
            return call(evaluate.main, [str(copy / "policy.eqx"), "--episodes", "2"])
        if "snapshots" in kind:
            out = ["--command", "10", "--out", str(copy / "written.eqx")]
            code, said, error = call(generate.main, [str(copy), *out])
            written = copy / "written.eqx"
            same = written.read_bytes().hex() if written.exists() else ""
            return code, same, error
        return call(train.main, ["--resume", str(copy)])

    whole = work / "whole"
    shutil.copytree(reference, whole)
    _, expected, _ = read(whole)
    for number in range(count):
        copy = work / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(reference, copy)
        path = moments.choice(sorted(copy.glob(pattern)))
        content = path.read_bytes()
        path.write_bytes(change(content, moments))
        unchanged = path.read_bytes() == content
        kept = work / f"{kind.replace(' ', '-')}-{number}"
        code, said, error = read(copy)
        lines = error.splitlines()
        # A run is whole again if it came to the bits that it had.
        if "policy" in kind or "snapshots" in kind:
            same = said == expected
        else:
            same = code == 0 and not differences(copy, reference)
        if "Traceback" in error or code not in (0, 2):
            wrong = "traceback"
        elif code == 2:
            wrong = "" if len(lines) == 1 else "more than a line"
            outcomes["refused"] += 1
        elif same or unchanged:
            wrong = ""
            outcomes["said and mended" if lines else "the same"] += 1
        else:
            wrong = "" if lines or not checked else "in silence"
            outcomes["said and mended" if lines else "accepted"] += 1
        if wrong:
            kept.write_bytes(path.read_bytes() if path.exists() else b"")
            bad.append(f"{kept.name} ({path.name}): {wrong}: {error[-200:]}")
        if number % _COMPILED == 0:
            jax.clear_caches()
    found.write_text(json.dumps({"bad": bad, "outcomes": outcomes}))
    return 0


def call(
    main: Callable[[list[str]], int], arguments: list[str]
) -> tuple[int, str, str]:
    """Calls a command; gives its exit code and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except Exception as error:
            return 1, out.getvalue(), f"Traceback {type(error).__name__}: {error}"
    return code, out.getvalue(), err.getvalue()


def _zoos(count: int, work: Path, seed: int, found: Path) -> int:
    """In a process of its own: damages the file of a zoo, and asks for the zoo."""
    import os

    from wsl.zoo._digits_inrs import make_digits_inrs, Settings

    os.environ["WSL_CACHE"] = str(work / "zoos")
    settings = Settings(1, "independent", False, 0, steps=1, num_images=(1, 1, 1))
    ask = lambda: jax.tree.leaves(make_digits_inrs(settings, cache=True).groups)
    expected = [np.asarray(leaf) for leaf in ask() if hasattr(leaf, "dtype")]
    moments, bad = random.Random(seed), []
    (path,) = (work / "zoos").glob("*.npz")
    content = path.read_bytes()
    for number in range(count):
        if number % 20 == 19:
            # Zoos that are made anew compile anew, and a process may map only so much.
            jax.clear_caches()
        path.write_bytes(damage(content, moments))
        try:
            given = [np.asarray(leaf) for leaf in ask() if hasattr(leaf, "dtype")]
            if not all(map(np.array_equal, given, expected)):
                bad.append(f"{number}: another zoo")
        except Exception as error:
            bad.append(f"{number}: {type(error).__name__}: {error}")
    outcomes = {"the same or made anew": count - len(bad)}
    found.write_text(json.dumps({"bad": bad, "outcomes": outcomes}))
    return 0
