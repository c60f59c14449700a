"""One row of the table."""

import functools
import time
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from wsl._match import match_weights
from wsl._weight_space import WeightSpace
from wsl.encoders import count_flops
from wsl.zoo._zoo import take, Zoo
from wsl.zoo.benchmark._edit import (
    shown_by,
    targets_of,
    train_editor,
    UNTRAINED,
    untrained,
)
from wsl.zoo.benchmark._encoders import ENCODERS, Setting
from wsl.zoo.benchmark._fit import map_networks
from wsl.zoo.benchmark._predict import Targets, train_predictor, trained_arrays
from wsl.zoo.benchmark._settings import Settings
from wsl.zoo.benchmark._tasks import find, score, Task


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
    return {
        "task": task_name,
        "encoder": encoder,
        "seed": seed,
        **measured(encoder, at, train, dict(others), settings, key=jr.key(seed)),
    }


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
    return tuple(name for name in ENCODERS if name not in left_out)


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
    labels = _labels(train, task.labels)
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
        found = score(task, predicted, _labels(zoo, task.labels))
        scores |= {f"{metric}{suffix}": value for metric, value in found.items()}
    return {
        **scores,
        "parameters": _size(eqx.filter(model, trained_arrays(model, entry.trains))),
        "reads": model.encoder.num_reads,
        "flops": count_flops(model.encoder, at.network),
        "seconds": seconds,
    }


def _edit(
    name: str,
    at: Setting,
    train: Zoo,
    others: dict[str, Zoo],
    settings: Settings,
    *,
    key: PRNGKeyArray,
) -> dict[str, Any]:
    began = time.perf_counter()
    if name in UNTRAINED:
        editor, show = None, lambda zoo: untrained(name, train, zoo)
    else:
        editor = train_editor(name, at, train, settings, key=key)
        show = lambda zoo: shown_by(editor, zoo)
    seconds = time.perf_counter() - began
    errors = {
        f"mse{suffix}": float(np.mean(np.square(show(zoo) - targets_of(zoo))))
        for suffix, zoo in others.items()
    }
    return {
        **errors,
        "parameters": _size(eqx.filter(editor, eqx.is_inexact_array)),
        "seconds": seconds,
    }


def _size(tree: PyTree) -> int:
    return sum(x.size for x in jax.tree.leaves(tree))


def _first(zoo: Zoo) -> PyTree:
    return jax.tree.map(lambda x: x[0] if eqx.is_array(x) else x, zoo.networks)


def _labels(zoo: Zoo, names: tuple[str, ...]) -> np.ndarray:
    return np.stack([zoo.labels[name] for name in names], axis=1)


@functools.cache
def _aligned(space: WeightSpace, zoo: Zoo, train: Zoo) -> tuple[PyTree, float]:
    """A zoo's networks, matched to the first of `train`, and the seconds it took."""
    began = time.perf_counter()
    aligned = align(space, zoo.networks, _first(train))
    return aligned, time.perf_counter() - began


def align(space: WeightSpace, networks: PyTree, reference: PyTree) -> PyTree:
    """Matches every network of a stack to one."""
    count = len(jax.tree.leaves(eqx.filter(networks, eqx.is_array))[0])
    stacked = []
    for i in range(count):
        one = jax.tree.map(
            lambda x: x[0] if eqx.is_array(x) else x, take(networks, np.array([i]))
        )
        match = match_weights(space, reference, one, num_restarts=1, key=jr.key(i))
        stacked.append(eqx.filter(match.aligned, eqx.is_array))
    arrays = jax.tree.map(lambda *x: np.stack(x), *stacked)
    return eqx.combine(jax.tree.map(jax.numpy.asarray, arrays), networks)
