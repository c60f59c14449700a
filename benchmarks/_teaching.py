"""V of all that a run has tried, and policies that it teaches without an episode."""

import dataclasses
from typing import Any, final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from applications.envs import make
from applications.epvf import Config, EPVF
from applications.epvf.config import PRESETS
from applications.policies import FlatView, MLPPolicy, RunningStatistics, standardised
from applications.rollout import compile_rollout
from applications.stores import Archive, Record
from applications.values import (
    EncoderOptions,
    fit,
    make_encoder,
    predict,
    shown_by,
    value_function,
)
from applications.values._inputs import AbstractWrapper
from wsl.encoders import AbstractEncoder, EncodedMLP


# A whole run of perturbations that are wide at first: V must have seen bad policies, or
# it knows nothing of new ones.
EXPLORER = dataclasses.replace(
    PRESETS["paper"],
    num_envs=64,
    iterations=60,
    archive=60,
    representation="probing",
    bounded_answers=True,
    noise_scale=1.0,
    noise_schedule="linear",
    noise_end=0.0,
)
_BATCH = 256


@final
class Explored(eqx.Module):
    """What a run of EPVF leaves: its policy, and everything that it tried.

    Attributes:
        search: The algorithm.
        weights: The run's policy, for observations as it sees them.
        archive: Perturbed policies and their returns.
        observations: Statistics of the observations; None where they are not
            standardised.
        best_seen: The highest return of a perturbed policy.
    """

    search: EPVF
    weights: Float[Array, " weights"]
    archive: Archive[Record]
    observations: RunningStatistics | None
    best_seen: float

    def shown(self, weights: Float[Array, " weights"]) -> Any:
        """A policy of the archive, for observations as V's probes are."""
        to_policy: Any = self.search.view.to_policy
        return shown_by(to_policy, self.observations)(weights)

    def returns_of(
        self, view: FlatView[Any], population: Array, episodes: int, *, seed: int
    ) -> np.ndarray:
        """Mean returns of policies of any shape, for observations as V's probes are."""

        def acting(weights: Array) -> Any:
            policy: Any = view.to_policy(weights)
            seen = self.observations
            return policy if seen is None else standardised(policy, seen)

        run = compile_rollout(self.search.task, acting, episodes=episodes)
        found = run(population, key=jr.key(seed))
        return np.asarray(found.total_reward.mean(axis=1))


def explore(task: str, changes: dict[str, Any], seed: int) -> Explored:
    """Trains by EPVF, and keeps all that was tried.

    Args:
        task: Name of the task; MuJoCo's are stepped by the C engine.
        changes: Settings other than `EXPLORER`'s.
        seed: Seed of the run.

    Returns:
        What it leaves.
    """
    config: Config = dataclasses.replace(EXPLORER, **changes)
    config = dataclasses.replace(config, archive=config.iterations)
    search = EPVF(make(task, physics="mujoco"), config)
    state = search.begin(key=jr.key(seed))
    step = search.compile(state)
    for _ in range(config.iterations):
        state, _ = step(state)
    archive = state.learned.archive
    there = archive.filled[:, None] & archive.entries.valid
    best = float(jnp.max(jnp.where(there, archive.entries.returns, -jnp.inf)))
    seen = state.observations if config.normalise else None
    return Explored(search, state.learned.policies[0], archive, seen, best)


@final
class Frozen(AbstractWrapper):
    """An encoder that learns nothing: the control of learned probes."""

    encoder: AbstractEncoder

    def __init__(self, encoder: AbstractEncoder):
        self.encoder = encoder

    @property
    def is_invariant(self) -> bool:
        return self.encoder.is_invariant

    def __call__(self, network: PyTree) -> Array:
        fixed = jax.tree.map(
            lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf,
            self.encoder,
        )
        return fixed(network)


class Judge(NamedTuple):
    """A fitted V, and the most that it says of a policy in its data."""

    value: EncodedMLP
    ceiling: float


def fit_value(
    explored: Explored,
    probes: int,
    *,
    kind: str = "learned",
    updates: int = 3000,
    seed: int,
) -> Judge:
    """Fits V anew to an archive.

    Args:
        explored: Has the archive.
        probes: How many probing states V has.
        kind: `learned`; or a control: `frozen`, whose probes stay as they were drawn,
            or `shuffled`, which is told the returns of other policies.
        updates: Steps of Adam.
        seed: Seed of the draw and of the batches.

    Returns:
        V.
    """
    draw_key, head_key, fit_key, shuffle_key = jr.split(jr.key(seed), 4)
    search, archive = explored.search, explored.archive
    config = search.config
    options = EncoderOptions(probes=probes, bounded=True)
    encoder = make_encoder(
        "probing", search.task, search.view.like, options, key=draw_key
    )
    encoder = Frozen(encoder) if kind == "frozen" else encoder
    value = value_function(
        encoder, config.critic_width, config.critic_depth, key=head_key
    )
    if kind == "shuffled":
        order = jr.permutation(shuffle_key, archive.capacity)
        where = lambda archive: (archive.entries.returns, archive.entries.valid)
        mixed = jax.tree.map(lambda leaf: leaf[order], where(archive))
        archive = eqx.tree_at(where, archive, mixed)
    optimiser = optax.adam(config.critic_lr)

    @eqx.filter_jit
    def fitted(value: EncodedMLP, explored: Explored, archive: Any) -> Any:
        state = optimiser.init(eqx.filter(value, eqx.is_inexact_array))
        value, *_ = fit(
            *(value, optimiser, state, archive, explored.shown),
            kind="standard",
            batch_size=_BATCH,
            updates=updates,
            key=fit_key,
        )
        said = predict(value, explored.shown, archive.entries)[:, 0]
        return value, jnp.max(jnp.where(archive.filled, said, -jnp.inf))

    value, ceiling = fitted(value, explored, archive)
    return Judge(value, float(ceiling))


class Taught(NamedTuple):
    """Policies on their way up V, `(checks, policies)`.

    Attributes:
        updates: After how many steps of Adam each check is.
        weights: The policies, `(checks, policies, weights)`.
        values: What V says of them.
    """

    updates: np.ndarray
    weights: Float[Array, "checks policies weights"]
    values: np.ndarray


def teach(
    value: EncodedMLP,
    view: FlatView[Any],
    starts: Float[Array, "policies weights"],
    *,
    checks: int,
    every: int,
    rate: float = 1e-2,
) -> Taught:
    """Takes policies up V by steps of Adam, without an episode.

    Args:
        value: V.
        view: From vectors to the policies, of any shape.
        starts: Where they start.
        checks: How often they are looked at, after the start.
        every: Steps from one look to the next.
        rate: Adam's learning rate.

    Returns:
        The policies at all looks.
    """
    optimiser = optax.adam(rate)

    @eqx.filter_jit
    def ascend(value: EncodedMLP, starts: Array) -> Any:
        height = lambda weights: value(view.to_policy(weights))

        def update(carry: Any, _: None) -> Any:
            weights, state = carry
            change, state = optimiser.update(-jax.grad(height)(weights), state)
            return (optax.apply_updates(weights, change), state), None

        def check(carry: Any, _: None) -> Any:
            carry, _ = jax.lax.scan(update, carry, length=every)
            return carry, (carry[0], height(carry[0]))

        def of_one(start: Array) -> Any:
            _, found = jax.lax.scan(
                check, (start, optimiser.init(start)), length=checks
            )
            first = (start, height(start))
            return jax.tree.map(
                lambda a, b: jnp.concatenate([a[None], b]), first, found
            )

        return jax.vmap(of_one, out_axes=1)(starts)

    weights, values = ascend(value, starts)
    return Taught(np.arange(checks + 1) * every, weights, np.asarray(values))


def new_policies(
    explored: Explored, hidden: tuple[int, ...], count: int, *, seed: int
) -> tuple[FlatView[Any], Float[Array, "policies weights"]]:
    """Draws policies that nobody has tried.

    Args:
        explored: Has the task.
        hidden: Widths of their hidden layers; none for linear ones.
        count: How many.
        seed: Seed of the draw.

    Returns:
        From vectors to such policies, and the vectors.
    """
    task = explored.search.task
    draw = lambda key: MLPPolicy(task, hidden, key=key)
    view = FlatView(draw(jr.key(0)))
    return view, jax.vmap(lambda key: view.to_vector(draw(key)))(
        jr.split(jr.key(seed), count)
    )
