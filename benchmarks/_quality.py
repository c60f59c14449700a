"""Policies by the cell that their speed is in, of GoGePo and of MAP-Elites."""

from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from applications.gogepo._runs import last_snapshot, open_run
from applications.rollout import compile_rollout
from applications.training import (
    checkpoint_settings,
    key_for,
    load_checkpoint,
    Purpose,
    Run,
)


class Found(NamedTuple):
    """Policies, and what they do.

    Attributes:
        weights: Theirs, for observations as they are, `(policies, weights)`.
        cells: The cell that each is there for, `(policies,)`.
        speeds: Their speeds.
        returns: Their returns.
    """

    weights: Any
    cells: np.ndarray
    speeds: np.ndarray
    returns: np.ndarray


def cell_of(values: Any, ends: tuple[float, float], cells: int) -> np.ndarray:
    """The cells that values are in; those beyond the ends are in the outer ones.

    Args:
        values: Any numbers.
        ends: Lower and upper end of all cells.
        cells: How many there are, all equally wide.

    Returns:
        Their numbers, from 0.
    """
    low, high = ends
    share = (np.asarray(values, float) - low) / (high - low)
    return np.clip(np.floor(cells * share), 0, cells - 1).astype(int)


def best_of_cells(
    speeds: np.ndarray, returns: np.ndarray, ends: tuple[float, float], cells: int
) -> dict[int, int]:
    """The policy with the largest return in each cell that has one.

    Args:
        speeds: Of policies.
        returns: Of the same; a policy whose return is not finite does not count.
        ends: As `cell_of` has them.
        cells: Likewise.

    Returns:
        From a cell to a policy's place.
    """
    best: dict[int, int] = {}
    for at, cell in enumerate(cell_of(np.nan_to_num(speeds), ends, cells).tolist()):
        if np.isfinite(returns[at]):
            if cell not in best or returns[at] > returns[best[cell]]:
                best[cell] = at
    return best


def score(
    found: Found, ends: tuple[float, float], cells: int, offset: float
) -> dict[str, float]:
    """How many cells policies fill, and how well.

    Args:
        found: The policies.
        ends: As `cell_of` has them.
        cells: Likewise.
        offset: What returns are counted from.

    Returns:
        `coverage`, the share of cells with a policy; `own`, the share of policies that
        are in the cell they are there for; `qd_score`, the sum over cells of the best
        return less the offset; `best_return`.
    """
    best = best_of_cells(found.speeds, found.returns, ends, cells)
    kept = found.returns[list(best.values())]
    there = cell_of(np.nan_to_num(found.speeds), ends, cells)
    own = np.isfinite(found.returns) & (there == found.cells)
    return {
        "coverage": len(best) / cells,
        "own": float(np.mean(own)),
        "qd_score": float(np.sum(kept - offset)),
        "best_return": float(np.max(kept)),
    }


class Generator(NamedTuple):
    """A run of GoGePo.

    Attributes:
        search: Its algorithm.
        steps: Environment steps that it took.
        dial: What is written for the middle of each cell. A return that is commanded
            too is the best that the archive has in the cell, or in the nearest one.
            What was said of them are the commands.
        archive: The best policy of the archive in each cell.
    """

    search: Any
    steps: int
    dial: Found
    archive: Found


class Elites(NamedTuple):
    """A run of MAP-Elites.

    Attributes:
        search: Its algorithm.
        steps: Environment steps that it took.
        kept: The policies that it kept.
    """

    search: Any
    steps: int
    kept: Found


def open_elites(directory: Path) -> Elites:
    """Reads what a run of MAP-Elites has kept.

    Args:
        directory: The run's.

    Returns:
        The run.
    """
    from applications.baselines.train import COMMAND_LINE
    from applications.evolution.map_elites import MAPElites

    run = Run(directory)
    settings = COMMAND_LINE.read(run)
    search = MAPElites(settings.task.make(as_trained=True), settings.algorithm)
    state, steps = _last(run, search, settings)
    elites = state.learned
    there = np.flatnonzero(elites.filled)
    kept = Found(
        elites.weights[there],
        there,
        np.asarray(elites.descriptors)[there],
        np.asarray(elites.returns)[there],
    )
    return Elites(search, steps, kept)


def open_generator(directory: Path, ends: tuple[float, float], cells: int) -> Generator:
    """Commands what a run of GoGePo has learned, and looks into its archive.

    Args:
        directory: The run's; it commands speed and return.
        ends: As `cell_of` has them.
        cells: Likewise.

    Returns:
        The run.
    """
    opened = open_run(directory)
    search, model = opened.search, last_snapshot(opened)
    state, steps = _last(opened.run, search, opened.settings)
    entries = state.learned.archive.entries
    there = np.asarray(state.learned.archive.filled & entries.valid)
    speeds, returns = np.asarray(entries.outcome).T
    returns = np.where(there, returns, -np.inf)
    best = best_of_cells(speeds, returns, ends, cells)
    filled = np.array(sorted(best))
    chosen = np.array([best[cell] for cell in filled])
    archive = Found(entries.weights[chosen], filled, speeds[chosen], returns[chosen])
    low, high = ends
    middles = low + (np.arange(cells) + 0.5) / cells * (high - low)
    # What has never been done is out of reach, as `gogepo.generate` has it.
    within = np.clip(middles, model.outcomes.least, model.outcomes.best[0])
    nearest = np.abs(np.arange(cells)[:, None] - filled).argmin(axis=1)
    commands = jnp.asarray(np.stack([within, archive.returns[nearest]], axis=1))
    weights = search.fold_normalisation(
        search.generate(model, commands.astype(jnp.float32)), model.observations
    )
    dial = Found(weights, np.arange(cells), *np.asarray(commands).T)
    return Generator(search, steps, dial, archive)


def run_again(
    opened: Generator | Elites, policies: Found, *, episodes: int, seed: int
) -> Found:
    """What policies do in fresh episodes.

    Args:
        opened: The run that they are of.
        policies: The policies.
        episodes: Episodes of each; speed and return are their means.
        seed: Draws the start states, others than those of training.

    Returns:
        The same policies with what they did now. Of one whose simulation broke the
        return is not finite.
    """
    search = opened.search
    speed_at = search.task.facts.signal("speed").index
    run = compile_rollout(search.task, search.view.to_policy, episodes=episodes)
    key = jr.fold_in(key_for(seed, Purpose.EVALUATE), episodes)
    done = run(policies.weights, key=key)
    sound = np.asarray(done.valid).all(axis=1)
    speeds = np.asarray(done.observations.mean[..., speed_at]).mean(axis=1)
    returns = np.asarray(done.total_reward).mean(axis=1)
    return Found(
        policies.weights, policies.cells, speeds, np.where(sound, returns, -np.inf)
    )


def _last(run: Run, search: Any, settings: Any) -> tuple[Any, int]:
    """The last checkpoint of a run, and its environment steps."""
    key = key_for(settings.launch.seed, Purpose.TRAIN)
    form = eqx.filter_eval_shape(lambda key: search.init(key=key), key)
    settings_of = checkpoint_settings(settings.to_json())
    state, progress, _ = load_checkpoint(run.checkpoints, form, settings_of)
    return state, progress.env_steps
