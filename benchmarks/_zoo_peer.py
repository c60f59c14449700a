"""Rows of the package `nfn`, trained on the same networks with the same settings."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _common import ROOT

from wsl.zoo.benchmark import find, score, Settings, Targets


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
        A row as `wsl.zoo.benchmark.run` gives it.
    """
    task, settings = find(task_name), Settings()
    zoo = task.make_zoo()
    train, test = zoo.split(*settings.fit_on), zoo.split(settings.score_on)
    labels, expected = (
        np.stack([part.labels[label] for label in task.labels], axis=1)
        for part in (train, test)
    )
    targets = Targets.of(task, labels)
    asked = {
        "kind": task.kind,
        "signed_log": task.units == "scale",
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "dropout": settings.dropout if task.kind == "classification" else 0.0,
        "width": settings.width,
    }
    arrays = {"settings": np.array(json.dumps(asked))}
    for split, networks in (("train", train.groups[0]), ("test", test.groups[0])):
        for i, layer in enumerate(networks.layers):
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
    predicted = targets.predict(result["predicted"])
    return {
        "task": task_name,
        "encoder": name,
        "seed": seed,
        **score(task, predicted, expected[: len(predicted)]),
        "parameters": int(result["parameters"]),
        "reads": sum(x[0].size for name, x in arrays.items() if name[:4] == "test"),
        "flops": None,
        "seconds": float(result["seconds"]),
    }
