"""Populations on MuJoCo's own engine: physics in C on threads, the rest in XLA.

Episodes are cut into blocks, and a thread runs a block to its end. There it alternates:
MuJoCo advances the block's simulations by one control step, and one compiled function
judges that step and lets the policies act on what they see now. Episodes that have
ended are not simulated any more; once three quarters of a block have ended, the rest
moves on in a smaller block.
"""

import concurrent.futures
import os
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.random as jr
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree
from mujoco.batch import Batch, SimulationError

from applications.envs.native import NativeTask, Physics
from applications.policies import Moments
from applications.rollout._rollout import all_finite, contained, Episode
from applications.rollout._simulations import Simulations


# Most episodes in a block: so many that calling the compiled function costs little
# beside the physics.
_BLOCK = 512
_SHRINK = 4
_SMALLEST = 16


@final
class _Rows(eqx.Module):
    """Episodes under way, one a row.

    Attributes:
        physics: What the policy saw last.
        action: What it does there.
        ctrl: The control that this stands for.
        sound: Whether what the policy put out is finite.
        total: Rewards so far.
        length: Control steps so far.
        valid: Whether all was finite so far.
        alive: Whether the episode goes on.
        seen: Moments of the observations so far.
    """

    physics: Physics
    action: Float[Array, "rows action"]
    ctrl: Float[Array, "rows controls"]
    sound: Bool[Array, " rows"]
    total: Float[Array, " rows"]
    length: Int[Array, " rows"]
    valid: Bool[Array, " rows"]
    alive: Bool[Array, " rows"]
    seen: Moments


@final
class NativeRollout:
    """Runs populations of policies, each with its own weights, on the C engine.

    Start states are those that `rollout` draws from the same key. Which thread runs a
    block makes no difference to it. The size of a block may make one, in the last bit
    of what XLA computes, which contacts magnify: it follows from the number of threads,
    unless `block` says less, and from how many policies have come to their end.
    """

    def __init__(
        self,
        task: NativeTask,
        make_policy: Callable[[Float[Array, " weights"]], Callable],
        *,
        episodes: int = 1,
        block: int | None = None,
        threads: int | None = None,
        part: tuple[int, int] = (0, 1),
    ):
        """Prepares rollouts; compiles at the first one.

        Args:
            task: The task.
            make_policy: From weights to a policy, for instance `FlatView.to_policy`.
            episodes: Episodes of each policy.
            block: How many episodes a thread runs at once, at most. Unless given, a
                number of which all threads get equally many.
            threads: How many threads; unless given, one for each core that this
                process may use.
            part: Which part of a population to run, counted from 0, and of how many
                equal ones. The last one may be filled up.

        Raises:
            ValueError: If a number is below 1, or there is no such part.
        """
        threads = _cores() if threads is None else threads
        for name, value in {
            "episodes": episodes,
            "block": block,
            "threads": threads,
        }.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if not 0 <= part[0] < part[1]:
            raise ValueError(f"There is no part {part[0]} of {part[1]}.")
        self._task = task
        self._make_policy = make_policy
        self._episodes = episodes
        self._part = part
        self._block = block
        self._threads = threads
        self._compiled: set[tuple[int, ...]] = set()
        # Of policies, what is no array, and so the same for all.
        self._rest: PyTree = None
        self._draw = jax.jit(self._draw_rows, static_argnums=3)
        self._begin = jax.jit(self._first_rows)
        self._advance = jax.jit(self._next_rows)
        self._take = jax.jit(lambda tree, at: jax.tree.map(lambda x: x[at], tree))

    def __call__(
        self, population: Float[Array, "policies weights"], *, key: PRNGKeyArray
    ) -> Episode:
        """Runs a population.

        Args:
            population: The weights, one policy a row.
            key: Source of randomness.

        Returns:
            Episodes of the part, with a batch shape `(policies, episodes)`.
        """
        count = self._count(population)
        size = count * self._episodes
        self.compile(population)
        block = self._block_of(population)
        begin = self._part[0] * size
        firsts = range(begin, begin + size, block)

        def run(first: int) -> tuple[np.ndarray, ...]:
            return self._run_block(population, first, block, key=key)

        workers = min(self._threads, len(firsts))
        if workers == 1:
            finished = [run(first) for first in firsts]
        else:
            with concurrent.futures.ThreadPoolExecutor(workers) as pool:
                finished = list(pool.map(run, firsts))

        def join(*parts: np.ndarray) -> Array:
            whole = np.concatenate(parts)[:size]
            return jnp.asarray(whole.reshape(count, self._episodes, *whole.shape[1:]))

        total, length, valid, start, *seen = map(join, *finished)
        return Episode(total, length, valid, start, Moments(*seen))

    def compile(self, population: Float[Array, "policies weights"]) -> None:
        """Compiles what populations of this form need, unless it has been done.

        In this thread, whose settings of JAX count.

        Args:
            population: Such a population.
        """
        if population.shape in self._compiled:
            return
        form = eqx.filter_eval_shape(self._make_policy, population[0])
        self._rest = eqx.filter(form, _is_form, inverse=True)
        size = self._block_of(population)
        policies, qpos, qvel = self._draw(population, jr.key(0), 0, size)
        data = mujoco.MjData(self._task.model)
        derived = {
            name: jnp.zeros((size, *getattr(data, name).shape))
            for name in self._task.definition.derived
        }
        rows, _ = self._begin(policies, qpos, qvel, derived)
        self._advance(policies, rows, qpos, qvel, derived)
        self._compiled.add(population.shape)

    def shape(self, population: Float[Array, "policies weights"]) -> Episode:
        """The form of what a whole population gives, without running it."""
        batch = (population.shape[0], self._episodes)
        observation = (*batch, self._task.observation_size)

        def like(shape: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
            return jnp.zeros(shape, dtype)

        return Episode(
            *(like(batch), like(batch, jnp.int32), like(batch, bool)),
            like(observation),
            Moments(like(batch), like(observation), like(observation)),
        )

    def _count(self, population: Float[Array, "policies weights"]) -> int:
        """Policies of the part."""
        return -(-population.shape[0] // self._part[1])

    def _block_of(self, population: Float[Array, "policies weights"]) -> int:
        """Episodes that a thread runs at once."""
        size = self._count(population) * self._episodes
        if self._block is not None:
            return min(self._block, -(-size // self._threads))
        rounds = -(-size // (_BLOCK * self._threads))
        return -(-size // (rounds * self._threads))

    def _run_block(
        self,
        population: Float[Array, "policies weights"],
        first: int,
        size: int,
        *,
        key: PRNGKeyArray,
    ) -> tuple[np.ndarray, ...]:
        """Runs the episodes from number `first` on, each to its end.

        Returns:
            The leaves of an `Episode`.
        """
        definition = self._task.definition
        model = self._task.model
        # One thread: blocks run beside each other.
        if "cfrc_ext" in definition.derived:
            batch = Simulations(model, size)
        else:
            batch = Batch(model, size, 1)
        policies, qpos, qvel = self._draw(population, key, first, size)
        batch.qpos[:] = qpos
        batch.qvel[:] = qvel
        derived = {name: batch.bind(name) for name in definition.derived}
        if derived:
            batch.forward()
            # A cold solver, as with MJX.
            batch.qacc_warmstart[:] = 0.0

        def read(rows: Any) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
            def single(x: np.ndarray) -> np.ndarray:
                # What is too large is infinite, and ends the episode.
                with np.errstate(over="ignore"):
                    return x[rows].astype(np.float32)

            found = {name: single(x) for name, x in derived.items()}
            return single(batch.qpos), single(batch.qvel), found

        rows, start = self._begin(policies, *read(slice(None)))
        result = [np.array(x) for x in _told(rows)]
        # Which simulation each row is of; some at the end may be there to fill up.
        of = np.arange(size)
        while True:
            alive = np.asarray(rows.alive)
            living = np.flatnonzero(alive)
            if not len(living):
                _store(result, rows, of)
                return (*result[:3], np.asarray(start), *result[3:])
            smaller = max(len(alive) // _SHRINK, _SMALLEST)
            if len(living) <= smaller < len(alive):
                _store(result, rows, of)
                # The living first, in their order.
                kept = np.argsort(~alive, kind="stable")[:smaller]
                policies, rows = self._take((policies, rows), kept)
                of = of[kept]
                continue
            going = of[living]
            batch.ctrl[going] = np.asarray(rows.ctrl)[living]
            try:
                batch.step(going, nstep=definition.frame_skip)
            except SimulationError as error:
                # The others have been stepped; these end here.
                batch.qvel[error.ids] = np.nan
            rows = self._advance(policies, rows, *read(of))

    # Compiled.

    def _draw_rows(
        self,
        population: Float[Array, "policies weights"],
        key: PRNGKeyArray,
        first: Int[Array, ""],
        size: int,
    ) -> tuple[PyTree[Array], Array, Array]:
        """Policies and start states of the episodes from number `first` on."""
        # What is beyond the last one fills up.
        last = population.shape[0] * self._episodes - 1
        number = jnp.minimum(first + jnp.arange(size), last)

        def draw(number):
            policy, episode = number // self._episodes, number % self._episodes
            keys = jr.split(jr.fold_in(key, policy), self._episodes)
            qpos, qvel = self._task.definition.initial(key=keys[episode])
            made = self._make_policy(population[policy])
            # Once an episode: at every step, to cut the vector up would cost more than
            # to act.
            return eqx.filter(made, eqx.is_array), qpos, qvel

        return jax.vmap(draw)(number)

    def _first_rows(
        self,
        policies: PyTree[Array],
        qpos: Float[Array, "rows positions"],
        qvel: Float[Array, "rows velocities"],
        derived: dict[str, Float[Array, "rows ..."]],
    ) -> tuple[_Rows, Float[Array, "rows observation"]]:
        """What the policies do first, and what they see there."""
        size = len(qpos)
        ctrl = jnp.zeros((size, self._task.model.nu), qpos.dtype)
        physics = Physics(qpos, qvel, ctrl, jnp.zeros_like(qvel), derived)
        start, action, ctrl, sound = self._act(policies, physics)
        yes = jnp.ones(size, bool)
        zero = jnp.zeros(size, qpos.dtype)
        empty = Moments.empty(start.shape[1])
        seen = jax.vmap(lambda x: empty.add(contained(x)))(start)
        rows = _Rows(
            *(physics, action, ctrl, sound),
            *(zero, jnp.zeros(size, jnp.int32), yes, yes, seen),
        )
        return rows, start

    def _next_rows(
        self,
        policies: PyTree[Array],
        rows: _Rows,
        qpos: Float[Array, "rows positions"],
        qvel: Float[Array, "rows velocities"],
        derived: dict[str, Float[Array, "rows ..."]],
    ) -> _Rows:
        """Judges the step just made, and lets the policies act."""
        definition = self._task.definition
        after = Physics(qpos, qvel, rows.ctrl, jnp.zeros_like(qvel), derived)
        reward = jax.vmap(definition.reward)(rows.physics, after, rows.action)
        ended = jax.vmap(definition.terminated)(after)
        finite = rows.sound & jax.vmap(all_finite)((after, reward))
        earned = jnp.where(rows.alive & finite, reward, 0.0)
        length = rows.length + rows.alive.astype(jnp.int32)
        observation, action, ctrl, sound = self._act(policies, after)
        alive = rows.alive & finite & ~ended & (length < self._task.horizon)

        def count(seen, observation, alive):
            more = seen.add(contained(observation))
            return jax.tree.map(lambda new, old: jnp.where(alive, new, old), more, seen)

        return _Rows(
            *(after, action, ctrl, sound),
            rows.total + earned,
            length,
            rows.valid & (finite | ~rows.alive),
            alive,
            jax.vmap(count)(rows.seen, observation, alive),
        )

    def _act(
        self, policies: PyTree[Array], physics: Physics
    ) -> tuple[Array, Array, Array, Array]:
        """Observations, actions, controls, and whether outputs are finite."""
        definition = self._task.definition

        def act(policy, physics):
            observation = definition.observe(physics)
            output = eqx.combine(policy, self._rest)(observation)
            action = definition.action_space.select(output)
            sound = all_finite(output)
            # MuJoCo would print what it thinks of other controls.
            ctrl = jnp.where(sound, definition.control(action), 0.0)
            return observation, action, ctrl, sound

        return jax.vmap(act)(policies, physics)


def _is_form(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _told(rows: _Rows) -> tuple[Array, ...]:
    """What is kept of episodes, but for their starts, in the order of `Episode`."""
    return (rows.total, rows.length, rows.valid, *jax.tree.leaves(rows.seen))


def _store(result: list[np.ndarray], rows: _Rows, of: Int[np.ndarray, " rows"]) -> None:
    for mine, theirs in zip(result, _told(rows), strict=True):
        mine[of] = theirs


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def evaluate_native(
    task: NativeTask,
    policy: Callable[[Float[Array, " observation"]], Float[Array, " outputs"]],
    episodes: int,
    *,
    key: PRNGKeyArray,
) -> Episode:
    """Runs one policy for several episodes on the C engine.

    Args:
        task: The task.
        policy: The policy.
        episodes: How many.
        key: Source of randomness.

    Returns:
        Episodes, with a batch shape `(episodes,)`.
    """
    weights, rest = eqx.partition(policy, eqx.is_inexact_array)
    vector, to_weights = jax.flatten_util.ravel_pytree(weights)
    run = NativeRollout(
        task,
        lambda vector: eqx.combine(to_weights(vector), rest),
        episodes=episodes,
    )
    return jax.tree.map(lambda x: x[0], run(vector[None], key=key))
