"""MAP-Elites: what is kept in which cell, and what comes of it."""

import json
import shutil
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest


pytest.importorskip("qdax")

from applications.baselines import train
from applications.envs import make
from applications.evolution import MAPElitesConfig
from applications.evolution.map_elites import MAPElites
from applications.policies import RunningStatistics
from applications.rollout import Episode
from applications.settings import UserError
from applications.training import Run


_FEW: dict[str, Any] = {"num_envs": 6, "eval_episodes": 1, "hidden": (), "cells": 4}


def _search(**options):
    """Four cells of cartpole's speeds: from -0.5 to -0.25, to 0, to 0.25, to 0.5."""
    return MAPElites(make("cartpole"), MAPElitesConfig(**(_FEW | options)))


def _episodes(speeds, returns, valid=None):
    """An episode a policy; the cart's velocity is the second number that is seen."""
    count = len(speeds)
    valid = np.ones(count, bool) if valid is None else np.asarray(valid, bool)
    mean = np.zeros((count, 1, 4), np.float32)
    mean[:, 0, 1] = speeds
    seen = RunningStatistics(
        jnp.ones((count, 1)), jnp.asarray(mean), jnp.zeros((count, 1, 4))
    )
    shape = (count, 1)
    return Episode(
        jnp.asarray(returns, jnp.float32).reshape(shape),
        jnp.full(shape, 10),
        jnp.asarray(valid).reshape(shape),
        jnp.zeros((count, 1, 4)),
        seen,
        jnp.zeros(shape, bool),
    )


def _after(search, state, speeds, returns, valid=None):
    """The state after an iteration of six policies, their weights, and metrics."""
    trial = search.before_rollout(state)
    # The last one is the policy that is watched.
    valid = None if valid is None else [*valid, True]
    episodes = _episodes([*speeds, 0.0], [*returns, 0.0], valid)
    state, metrics = search.after_rollout(state, trial, episodes)
    return state, np.asarray(trial.acting)[:6], metrics


_SPEEDS = [-0.9, -0.3, -0.1, 0.1, 0.2, 0.3]
_RETURNS = [7.0, 5.0, 3.0, 1.0, 4.0, 9.0]


def test_each_cell_keeps_the_best():
    search = _search()
    state = search.init(key=jr.key(0))
    # The last one has broken: its cell stays empty.
    state, first, metrics = _after(search, state, _SPEEDS, _RETURNS, 5 * [1] + [0])
    elites = state.learned
    np.testing.assert_array_equal(elites.filled, [True, True, True, False])
    # What is slower than all cells is in the first one.
    np.testing.assert_array_equal(elites.returns, [7, 3, 4, 0])
    np.testing.assert_allclose(elites.descriptors[:3], [-0.9, -0.1, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(elites.weights[:3], first[[0, 2, 4]])
    assert float(metrics["coverage"]) == 0.75
    # Cartpole's returns begin at 0.
    assert float(metrics["qd_score"]) == 14.0
    assert float(metrics["return_kept_max"]) == 7.0
    policy = search.view.to_vector(search.policy(state))
    np.testing.assert_array_equal(policy, first[0])
    # Equal returns and lower ones do not replace what is there; a larger one does.
    returns = [7.0, 6.0, 2.0, 8.0, 3.0, 1.0]
    after, second, metrics = _after(search, state, _SPEEDS, returns)
    np.testing.assert_array_equal(after.learned.returns, [7, 3, 8, 1])
    np.testing.assert_array_equal(
        after.learned.weights, np.stack([first[0], first[2], second[3], second[5]])
    )
    assert float(metrics["coverage"]) == 1.0
    # Control: by negative returns others would be kept.
    other, *_ = _after(search, search.init(key=jr.key(0)), _SPEEDS, [-7, 5, 3, 1, 0, 9])
    assert not np.array_equal(other.learned.weights[0], first[0])


def test_offspring_is_on_lines_between_what_is_kept():
    search = _search(iso_scale=1e-6, line_scale=0.5)
    state = search.init(key=jr.key(0))
    drawn = np.asarray(search.before_rollout(state).proposal.candidates)
    assert len(np.unique(drawn, axis=0)) == 6, "new policies before any is kept"
    speeds, returns = [-0.4, 0.4, 0.4, 0.4, 0.4, 0.4], [1, 6, 2, 3, 4, 5]
    state, acted, _ = _after(search, state, speeds, returns)
    one, other = acted[0], acted[1]
    offspring = np.asarray(search.before_rollout(state).proposal.candidates)
    line = (other - one) / np.linalg.norm(other - one)

    def away(policies):
        rest = policies - one
        return np.linalg.norm(rest - np.outer(rest @ line, line), axis=1)

    assert away(offspring).max() < 1e-4
    assert len(np.unique(offspring.round(4), axis=0)) > 2
    # Controls: the policies that are not kept, and noise on each weight.
    assert away(acted[2:]).min() > 0.1
    noisy = _search(iso_scale=0.5, line_scale=0.5)
    assert away(np.asarray(noisy.before_rollout(state).proposal.candidates)).min() > 0.1


def test_what_is_kept_stays_what_it_was_whatever_is_observed():
    search = _search(normalise=True, iso_scale=1e-6, line_scale=1e-6)
    state = search.init(key=jr.key(0))
    state, _, _ = _after(search, state, _SPEEDS, _RETURNS)
    # Other speeds change the statistics that policies are standardised by.
    state, _, _ = _after(search, state, [3.0] * 6, [0.0] * 6)
    trial = search.before_rollout(state)
    acting, kept = np.asarray(trial.acting)[:6], np.asarray(state.learned.weights)
    nearest = lambda rows: np.abs(rows[:, None] - kept).max(axis=2).min(axis=1)
    assert nearest(acting).max() < 1e-3
    # Control: for standardised observations they are others.
    assert nearest(np.asarray(trial.proposal.candidates)).min() > 1e-2


def test_descriptors():
    assert _search().ends == (-0.5, 0.5)
    by_return = _search(descriptor="return", high=100.0)
    assert by_return.ends == (0.0, 100.0)
    episodes = _episodes([0.25], [9.0])
    assert float(_search().describe(episodes)[0, 0]) == 0.25
    assert float(by_return.describe(episodes)[0, 0]) == 9.0
    # A task that shows no speed has its returns.
    lqr = MAPElites(make("lqr"), MAPElitesConfig(**_FEW))
    assert lqr.ends == lqr.task.facts.return_range
    with pytest.raises(UserError, match="--descriptor speed is not for this task"):
        MAPElites(make("lqr"), MAPElitesConfig(descriptor="speed"))
    with pytest.raises(UserError, match=r"--low 1.0 must be below --high 0.5"):
        _search(low=1.0)


_SMALL = "--algorithm map-elites --env cartpole --num-envs 8 --horizon 30 --hidden"


def _rows(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_and_its_resumption(tmp_path):
    parted, whole = tmp_path / "parted", tmp_path / "whole"
    flags = [*_SMALL.split(), "--normalise"]
    assert train.main(["--run-dir", str(parted), *flags, "--steps", "400"]) == 0
    assert Run(parted).manifest.algorithm == "map-elites"
    shutil.copytree(parted, tmp_path / "before")
    assert train.main(["--resume", str(parted), "--steps", "900"]) == 0
    assert train.main(["--run-dir", str(whole), *flags, "--steps", "900"]) == 0
    after = (parted / "policy.eqx").read_bytes()
    assert after == (whole / "policy.eqx").read_bytes()
    found = _rows(whole)
    assert len(found) > len(_rows(tmp_path / "before"))
    scores = [row["qd_score"] for row in found]
    covered = [row["coverage"] for row in found]
    # Cells are never emptied, and no return in them falls.
    assert scores == sorted(scores) and covered == sorted(covered)
    assert 0 < covered[0] <= covered[-1] <= 1


def _on_swimmer(**scales):
    """Metrics of the first iteration and of the last one, on the C engine."""
    task = make("swimmer", physics="mujoco", horizon=400)
    config = MAPElitesConfig(
        num_envs=16, hidden=(), cells=16, eval_episodes=1, **scales
    )
    search = MAPElites(task, config)
    state = search.init(key=jr.key(0))
    step = search.compile(state)
    rows = []
    for _ in range(25):
        state, metrics = step(state)
        rows.append({name: float(value) for name, value in metrics.items()})
    return rows[0], rows[-1]


@pytest.mark.nightly
def test_it_illuminates_on_the_c_engine():
    first, last = _on_swimmer()
    assert last["coverage"] >= 2 * first["coverage"]
    assert last["return_kept_max"] > first["return_kept_max"] + 20
    # Control: of copies of what is kept only luck is new.
    _, copied = _on_swimmer(iso_scale=1e-6, line_scale=1e-6)
    assert copied["coverage"] < last["coverage"] - 0.2
    assert copied["return_kept_max"] < first["return_kept_max"] + 20
