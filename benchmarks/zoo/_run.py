"""One row of the table."""

import functools
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from benchmarks.zoo._edit import (
    shown_by,
    targets_of,
    train_editor,
    UNTRAINED,
    untrained,
)
from benchmarks.zoo._encoders import ENCODERS, Setting
from benchmarks.zoo._fit import map_networks
from benchmarks.zoo._predict import Targets, train_predictor
from benchmarks.zoo._settings import Settings
from benchmarks.zoo._tasks import find, score, Task
from wsl import match_weights, WeightSpace
from wsl.encoders import count_flops
from wsl.zoo import Zoo
from wsl.zoo._zoo import take


def run(task_name: str, encoder: str, seed: int, settings: Settings) -> dict[str, Any]:
    """Trains an encoder on a task and scores it.

    Args:
        task_name: The task.
        encoder: The encoder.
        seed: Seed of the encoder, the head and the order of networks. The zoo is
            always the same.
        settings: How to train.

    Returns:
        The metrics on the first split to score on; under their name with
        `_out_of_range` and the like those on others, and with `_other_architecture`
        those on networks of another size, where the encoder takes any; how many numbers
        learned (`parameters`) and how many of a network were read (`reads`); operations
        an encoding (`flops`); `seconds` of training, with compilation and what must be
        done to the networks before.

    Raises:
        ValueError: If the task or the encoder has no such name.
    """
    task = find(task_name)
    if encoder not in names_for(task):
        raise ValueError(
            f"There is no encoder {encoder!r} for {task_name!r}; there are "
            f"{list(names_for(task))}."
        )
    train, others = _splits(task, settings)
    at = Setting.of(task, train.networks)
    measured = _edit if task.kind == "editing" else _predict
    if encoder == _CEILING:
        measured = _measure
    return {
        "task": task_name,
        "encoder": encoder,
        "seed": seed,
        **measured(encoder, at, train, dict(others), settings, key=jr.key(seed)),
    }


# The ceiling of a ranking by accuracy: how well other pictures tell it.
_CEILING = "real-pictures"


@functools.cache
def _splits(task: Task, settings: Settings) -> tuple[Zoo, tuple[tuple[str, Zoo], ...]]:
    """What to train on, and what to score on with what follows a metric's name."""
    zoo = task.make_zoo()
    train = zoo.split(*settings.fit_on).by_architecture()[0]
    others = []
    for split in settings.score_on:
        first, *rest = zoo.split(split).by_architecture()
        others.append(("" if split == settings.score_on[0] else f"_{split}", first))
        others += [("_other_architecture", other) for other in rest]
    return train, tuple(others)


def names_for(task: Task) -> tuple[str, ...]:
    """Names of the encoders that a task can be given."""
    classifiers = "learned-validation-set"
    if task.kind == "editing":
        left_out = {"flat-augmented", "flat-matched", classifiers}
        names = [name for name in ENCODERS if name not in left_out]
        return (*(name for name in UNTRAINED if name not in names), *names)
    left_out = {classifiers}
    if task.units == "scale":
        # Tanh is not homogeneous; 74 fixed ends make millions of coefficients.
        left_out = {"pixels", "forward-graph-tanh", "equivariant"}
    names = tuple(name for name in ENCODERS if name not in left_out)
    return (*names, _CEILING) if task.kind == "ranking" else names


def _predict(
    name: str,
    at: Setting,
    train: Zoo,
    others: dict[str, Zoo],
    settings: Settings,
    *,
    key: PRNGKeyArray,
) -> dict[str, Any]:
    entry, task = ENCODERS[name], at.task
    networks, before = train.networks, 0.0
    if entry.aligns:
        networks, before = _aligned(at.space, train, train)
    labels = task.labels_of(train)
    began = time.perf_counter()
    model = train_predictor(entry, at, networks, labels, settings, key=key)
    jax.block_until_ready(jax.tree.leaves(eqx.filter(model, eqx.is_array)))
    seconds = before + time.perf_counter() - began

    scores = {}
    targets = Targets.of(task, labels)
    for suffix, zoo in others.items():
        if suffix == "_other_architecture" and not entry.any_size:
            continue
        networks = zoo.networks
        if entry.aligns:
            networks, _ = _aligned(at.space, zoo, train)
        predicted = targets.predict(np.asarray(map_networks(model, networks)))
        found = score(task, predicted, task.labels_of(zoo))
        scores |= {f"{metric}{suffix}": value for metric, value in found.items()}
    return {
        **scores,
        "parameters": _size(eqx.filter(model, model.trained(entry.trains))),
        "reads": model.encoder.num_reads,
        "flops": count_flops(model.encoder, at.network),
        "seconds": seconds,
    }


def _measure(
    name: str,
    at: Setting,
    train: Zoo,
    others: dict[str, Zoo],
    settings: Settings,
    *,
    key: PRNGKeyArray,
) -> dict[str, Any]:
    del name, settings, key
    is_other = train.data["parts"] == "validation"
    images = jnp.asarray(train.data["images"][is_other].reshape(-1, at.task.in_size))
    digits = train.data["digits"][is_other]
    scores = {}
    for suffix, zoo in others.items():
        logits = map_networks(lambda network: jax.vmap(network)(images), zoo.networks)
        accuracy = np.mean(np.asarray(logits).argmax(-1) == digits, axis=1)
        found = score(at.task, accuracy[:, None], at.task.labels_of(zoo))
        scores |= {f"{metric}{suffix}": value for metric, value in found.items()}
    reads = len(digits) * at.task.out_size
    return {**scores, "parameters": 0, "reads": reads, "flops": None, "seconds": 0.0}


def _edit(
    name: str,
    at: Setting,
    train: Zoo,
    others: dict[str, Zoo],
    settings: Settings,
    *,
    key: PRNGKeyArray,
) -> dict[str, Any]:
    parameters, seconds = 0, 0.0
    if name in UNTRAINED:
        show = lambda zoo: untrained(name, train, zoo)
    else:
        began = time.perf_counter()
        editor = train_editor(name, at, train, settings, key=key)
        jax.block_until_ready(jax.tree.leaves(eqx.filter(editor, eqx.is_array)))
        seconds = time.perf_counter() - began
        parameters = _size(eqx.filter(editor, editor.trained(ENCODERS[name].trains)))
        show = lambda zoo: shown_by(editor, zoo)
    errors = {
        f"mse{suffix}": float(np.mean(np.square(show(zoo) - targets_of(zoo))))
        for suffix, zoo in others.items()
    }
    return {
        **errors,
        "parameters": parameters,
        "seconds": seconds,
    }


def _size(tree: PyTree) -> int:
    return sum(x.size for x in jax.tree.leaves(tree))


@functools.cache
def _aligned(space: WeightSpace, zoo: Zoo, train: Zoo) -> tuple[PyTree, float]:
    """A zoo's networks, matched to the first of `train`, and the seconds it took."""
    began = time.perf_counter()
    aligned = align(space, zoo.networks, take(train.networks, 0))
    return aligned, time.perf_counter() - began


def align(space: WeightSpace, networks: PyTree, reference: PyTree) -> PyTree:
    """Matches every network of a stack to one."""
    count = len(jax.tree.leaves(eqx.filter(networks, eqx.is_array))[0])
    stacked = []
    for i in range(count):
        one = take(networks, i)
        match = match_weights(space, reference, one, num_restarts=1, key=jr.key(i))
        stacked.append(eqx.filter(match.aligned, eqx.is_array))
    arrays = jax.tree.map(lambda *x: np.stack(x), *stacked)
    return eqx.combine(jax.tree.map(jnp.asarray, arrays), networks)
