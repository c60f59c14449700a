"""Which of the observations of an episode are handed back."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


@final
class Visits(eqx.Module):
    """A sample of the observations that policies acted on.

    Attributes:
        observation: The observations; 0 where there is none.
        there: Which there are: episodes may have ended before.
    """

    observation: Float[Array, "*batch visits observation"]
    there: Bool[Array, "*batch visits"]


def empty_visits(
    batch: tuple[int, ...], observation_size: int, visits: int
) -> Visits | None:
    """Makes visits that are not there; None for no visits."""
    if not visits:
        return None
    shape = (*batch, visits)
    return Visits(jnp.zeros((*shape, observation_size)), jnp.zeros(shape, bool))


def visit_times(
    episode: Int[Array, "*batch"], visits: int, horizon: int
) -> Int[Array, "*batch visits"]:
    """Control steps before whose actions an episode's observations are kept.

    They lie evenly over the horizon, and begin elsewhere in every episode, so that over
    many episodes every control step is as likely as any other. No randomness: nothing
    depends on devices, blocks or keys.

    Args:
        episode: Number of the episode among all that are run.
        visits: How many observations are kept of an episode that is not cut short.
        horizon: The time limit, in control steps.

    Returns:
        The steps, counted from 0, in ascending order.
    """
    between = max(horizon // visits, 1)
    # Multiples of the golden ratio, modulo 1, in 16 bits.
    part = (episode.astype(jnp.uint32) * jnp.uint32(2_654_435_769)) >> 16
    begin = ((part * jnp.uint32(between)) >> 16).astype(jnp.int32)
    steps = between * jnp.arange(visits)
    return begin[..., None] + steps.reshape((1,) * begin.ndim + (visits,))


def keep_visit(
    visits: Visits,
    times: Int[Array, " visits"],
    step: Int[Array, ""],
    observation: Float[Array, " observation"],
) -> Visits:
    """Keeps an observation if its time has come.

    Args:
        visits: Those so far.
        times: From `visit_times`.
        step: Control steps before this observation was acted on.
        observation: The observation.

    Returns:
        The visits with it, or as they were.
    """
    # A place after the last one is dropped.
    due = times == step
    place = jnp.where(jnp.any(due), jnp.argmax(due), times.size)
    finite = jnp.where(jnp.isfinite(observation), observation, 0.0)
    return Visits(
        visits.observation.at[place].set(finite, mode="drop"),
        visits.there.at[place].set(True, mode="drop"),
    )


@final
class VisitLog:
    """Keeps visits of episodes that are stepped from Python, all from step 0 on."""

    def __init__(self, times: np.ndarray, observation_size: int):
        """Makes an empty log.

        Args:
            times: From `visit_times`, one episode a row.
            observation_size: Length of an observation.
        """
        self._times = times
        self._observation = np.zeros((*times.shape, observation_size), np.float32)
        self._there = np.zeros(times.shape, bool)

    def keep(
        self, step: int, episodes: np.ndarray, observations: Array, rows: np.ndarray
    ) -> None:
        """Keeps the observations whose time has come.

        Args:
            step: Control steps before these observations were acted on.
            episodes: Numbers of the episodes that go on.
            observations: Observations, of these episodes and perhaps others.
            rows: In which row each one's observation is.
        """
        which, place = np.nonzero(self._times[episodes] == step)
        if len(which):
            at = (episodes[which], place)
            kept = np.asarray(observations)[rows[which]]
            self._observation[at] = np.where(np.isfinite(kept), kept, 0.0)
            self._there[at] = True

    @property
    def visits(self) -> Visits:
        """What was kept."""
        return Visits(jnp.asarray(self._observation), jnp.asarray(self._there))
