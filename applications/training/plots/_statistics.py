"""Curves of runs, and statistics over runs."""

import array
import dataclasses
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from applications.settings import UserError
from applications.training.storage import iterate_rows, Row, Run


_RESAMPLES = 2000
_COVERAGE = 0.95
_TRIMMED = 0.25  # at each end


@dataclasses.dataclass(frozen=True)
class Curve:
    """One run: a metric after so many environment steps and seconds.

    Attributes:
        steps: Environment steps so far.
        seconds: Seconds so far.
        values: The metric.
    """

    steps: Float[np.ndarray, " rows"]
    seconds: Float[np.ndarray, " rows"]
    values: Float[np.ndarray, " rows"]


def read_curve(run: Run, metric: str) -> Curve:
    """Reads a metric of a run.

    Args:
        run: The run.
        metric: Name of a column; rows without a number in it are left out.

    Returns:
        The curve.

    Raises:
        UserError: If there are no rows, no such column, or no number in it.
    """
    columns = ("env_steps", "seconds", metric)
    numbers = array.array("d")
    row = None
    for row in iterate_rows(run.metrics):
        found = [number_in(row, name) for name in columns]
        if not any(map(math.isnan, found)):
            numbers.extend(found)
    if row is None:
        raise UserError(f"{run.directory} has no rows in metrics.jsonl yet.")
    for name in columns:
        if name not in row:
            there = ", ".join(name for name in row if name != "iteration")
            raise UserError(f"{run.directory} has no {name}. Its columns: {there}.")
    if not numbers:
        raise UserError(f"{metric} is never a number in {run.directory}.")
    return Curve(*np.asarray(numbers).reshape(-1, len(columns)).T)


def number_in(row: Row, name: str) -> float:
    """A number of a row; NaN where there is none that can be drawn."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    # Whole numbers of JSON may be beyond any float.
    return float(value) if abs(value) <= sys.float_info.max else math.nan


def interquartile_mean(
    values: Float[np.ndarray, "runs ..."], axis: int = 0
) -> Float[np.ndarray, "..."]:
    """Mean of the middle half of runs; of fewer than four, of all of them.

    Args:
        values: One row a run.
        axis: The axis of the runs.

    Returns:
        The mean over runs.
    """
    # Slow to import.
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(values, _TRIMMED, axis=axis))


def bootstrap_interval(
    values: Float[np.ndarray, "runs ..."],
    statistic: Callable[..., Any] = interquartile_mean,
    *,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Bootstrap interval of a middle over runs, by percentiles.

    Args:
        values: One row a run.
        statistic: From runs, the first axis, to their middle.
        seed: Seed of the resampling.

    Returns:
        Ends of the interval that holds 95 % of the resampled means. Of one run, twice
        its own value.
    """
    if len(values) == 1:
        return np.asarray(values[0]), np.asarray(values[0])
    # Slow to import.
    from scipy.stats import bootstrap

    interval = bootstrap(
        (values,),
        lambda values, axis: statistic(np.moveaxis(values, axis, 0)),
        n_resamples=_RESAMPLES,
        confidence_level=_COVERAGE,
        method="percentile",
        vectorized=True,
        axis=0,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return np.asarray(interval.low), np.asarray(interval.high)
