"""Rows of the package `nfn`, trained on the same networks with the same settings."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _common import ROOT

from benchmarks.zoo import find, score, Settings, Targets


PEERS = {
    "nfn-np": ("--kind", "NP"),
    "nfn-hnp": ("--kind", "HNP"),
    "nfn-np-fourier": ("--kind", "NP", "--fourier"),
}


def peer_row(python: str, task_name: str, name: str, seed: int) -> dict[str, Any]:
    """Trains one of that package's encoders.

    Args:
        python: A Python that has `torch` and `nfn`.
        task_name: The task.
        name: One of `PEERS`.
        seed: Seed.

    Returns:
        A row as `benchmarks.zoo.run` gives it.
    """
    task, settings = find(task_name), Settings()
    zoo = task.make_zoo()
    train = zoo.split(*settings.fit_on)
    splits = {
        split: zoo.split(split).by_architecture()[0] for split in settings.score_on
    }
    labels = task.labels_of(train)
    targets = Targets.of(task, labels)
    asked = {
        "kind": task.kind,
        "signed_log": task.units == "scale",
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "learning_rate": settings.rate_for(None),
        "weight_decay": settings.weight_decay,
        "dropout": settings.dropout if task.kind == "classification" else 0.0,
        "width": settings.width,
    }
    arrays = {"settings": np.array(json.dumps(asked))}
    for split, part in {"train": train, **splits}.items():
        for i, layer in enumerate(part.networks.layers):
            arrays[f"{split}|w{i}"] = np.asarray(layer.weight)
            arrays[f"{split}|b{i}"] = np.asarray(layer.bias)
    with tempfile.TemporaryDirectory() as temporary:
        given, found = Path(temporary) / "given.npz", Path(temporary) / "found.npz"
        arrays["targets"] = np.asarray(targets(labels))
        np.savez(given, **arrays)  # pyright: ignore[reportArgumentType]
        command = [python, str(ROOT / "benchmarks" / "_zoo_nfn.py"), *PEERS[name]]
        files = ["--file", str(given), "--out", str(found)]
        subprocess.run([*command, *files, "--seed", str(seed)], check=True)
        result = dict(np.load(found))
    scores = {}
    for split, part in splits.items():
        predicted = targets.predict(result[split])
        found = score(task, predicted, task.labels_of(part))
        suffix = "" if split == settings.score_on[0] else f"_{split}"
        scores |= {f"{metric}{suffix}": value for metric, value in found.items()}
    return {
        "task": task_name,
        "encoder": name,
        "seed": seed,
        **scores,
        "parameters": int(result["parameters"]),
        "reads": sum(x[0].size for name, x in arrays.items() if name[:4] == "test"),
        "flops": None,
        "seconds": float(result["seconds"]),
    }
