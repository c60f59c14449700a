"""How many control steps a second populations of policies take, engine by engine.

Every policy has weights of its own: two hidden layers of 64 tanh units. The limit is
MuJoCo's `rollout` on all threads, fed with the controls that the same policies gave
beforehand: the physics of these episodes and nothing else. Fed with random controls it
is another, often faster, for other motions meet other contacts. All figures of an
environment and a size are taken in turns, several times over, and medians are given,
with their ratio to the limit of the same run.

Startup is the time from the start of Python to the end of the first control step of all
policies, in a process of its own: with an empty compilation cache and twice more with
what that left there. Short episodes are such that end after 8 steps of 1,000.

Rows are kept in `runs/benchmarks/rollout_throughput`, so that this can be stopped and
started again; to measure anew, delete them.

    python benchmarks/rollout_throughput.py [--env ant --num-envs 1024 --json FILE]
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import jax.random as jr
import mujoco
import mujoco.rollout
import numpy as np
from _common import fill, machine, ROOT, write
from _style import in_style, legend_below, panels
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from mujoco.batch import Batch

from applications.envs import AbstractTask, make
from applications.envs.native import NativeTask, Physics
from applications.policies import FlatView, MLPPolicy
from applications.rollout import compile_rollout
from applications.rollout.native import NativeRollout


ENVS = ("ant", "hopper", "swimmer", "cartpole")
SIZES = (64, 256, 1024, 4096)
GYMNASIUM = {"hopper": "Hopper-v5", "swimmer": "Swimmer-v5", "cartpole": "CartPole-v1"}
HIDDEN = (64, 64)
# Control steps of a measurement, roughly; fewer on engines that are slower.
STEPS = {"native": 200_000, "jax": 10_000, "closed": 1_000_000, "gymnasium": 6_000}
LEAST_HORIZON = {"native": 10, "jax": 5, "gymnasium": 10}
# Steps that any policy makes on cartpole. In JAX a population runs until its last
# episode ends, so that with more of them it is the policies that are measured.
_BEFORE_IT_FALLS = 8
# Tasks with RK4, four simulation steps at a time, which MJX makes some hundred control
# steps a second of: as many times fewer.
SLOW = {"hopper": {"native": 4, "jax": 10}}
SLOW["swimmer"] = SLOW["hopper"]
KEPT = ROOT / "runs" / "benchmarks" / "rollout_throughput"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", nargs="*", default=list(ENVS), choices=ENVS)
    parser.add_argument("--num-envs", nargs="*", type=int, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write there and draw nothing")
    arguments = parser.parse_args()
    rows = []
    for env in arguments.env:
        for size in arguments.num_envs:
            rows.append(_kept(env, size, arguments.repeats))
            print(json.dumps(rows[-1]), flush=True)
    result: dict[str, Any] = {"rows": rows}
    result["short_episodes"] = _short_episodes()
    print(json.dumps(result["short_episodes"]), flush=True)
    result["startup_seconds"] = _startup()
    print(json.dumps(result["startup_seconds"]), flush=True)
    if arguments.json is not None:
        record = {"machine": machine(), **result}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
        return
    fill("learning.md", "throughput", _markdown(result))
    command = "python benchmarks/rollout_throughput.py"
    write("rollout_throughput", command, result, _figure(rows))


def _kept(env: str, size: int, repeats: int) -> dict[str, Any]:
    """A row, measured unless it is there already."""
    path = KEPT / f"{env}-{size}-{repeats}.json"
    if not path.is_file():
        row = _measure(env, size, repeats)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(row))
    return json.loads(path.read_text())


def _measure(env: str, size: int, repeats: int) -> dict[str, Any]:
    kinds = _kinds(env, size)
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    for run in kinds.values():
        run()  # compiles
    for _ in range(repeats):
        for name, run in kinds.items():
            began = time.perf_counter()
            steps = run()
            rates[name].append(steps / (time.perf_counter() - began))
    medians = {name: float(np.median(rate)) for name, rate in rates.items()}
    row = {"env": env, "num_envs": size, "threads": len(os.sched_getaffinity(0))}
    row["steps_per_second"] = medians
    if "limit" in medians:
        row["ratio_to_limit"] = {
            name: rate / medians["limit"]
            for name, rate in medians.items()
            if not name.startswith("limit")
        }
    return row


def _kinds(env: str, size: int) -> dict[str, Callable[[], int]]:
    """What is measured: from a name to a function that runs and counts its steps."""
    if env == "cartpole":
        task = make(env, horizon=_BEFORE_IT_FALLS)
        view, population = _population(task, size)
        episodes = STEPS["closed"] // (_BEFORE_IT_FALLS * size)
        return {
            "jax": _jax(task, view, population, episodes),
            "gymnasium": _gymnasium(env, view, population),
        }
    native = make(env, physics="mujoco", horizon=horizon_of("native", size, env))
    pure = make(env, physics="mjx", horizon=horizon_of("jax", size, env))
    assert isinstance(native, NativeTask) and isinstance(pure, AbstractTask)
    view, population = _population(native, size)
    kinds = {
        "limit": limit(native, given_controls(native, view, population)),
        "limit_random": limit(native, _random(native, size)),
    }
    run = NativeRollout(native, view.to_policy)

    def count() -> int:
        return int(np.sum(run(population, key=jr.key(0)).length))

    kinds["native"] = count
    if env not in SLOW or size <= 1024:
        kinds["jax"] = _jax(pure, view, population)
    if env in GYMNASIUM and size <= 256:
        kinds["gymnasium"] = _gymnasium(env, view, population)
    if env == "ant" and importlib.util.find_spec("brax"):
        kinds["brax"] = _brax(size)
    return kinds


def horizon_of(kind: str, size: int, env: str = "") -> int:
    steps = STEPS[kind] // SLOW.get(env, {}).get(kind, 1)
    return max(steps // size, LEAST_HORIZON[kind])


def _population(task: Any, size: int) -> tuple[FlatView, jax.Array]:
    view = FlatView(MLPPolicy(task, HIDDEN, key=jr.key(0)))

    def draw(key):
        return view.to_vector(MLPPolicy(task, HIDDEN, key=key))

    return view, jax.jit(jax.vmap(draw))(jr.split(jr.key(1), size))


def given_controls(
    task: NativeTask, view: FlatView, population: jax.Array
) -> np.ndarray:
    """The controls of the policies, `(policies, steps, controls)`, from `_starts`."""
    size, definition = len(population), task.definition
    batch = Batch(task.model, size, len(os.sched_getaffinity(0)))
    batch.qpos[:], batch.qvel[:] = _starts(task, size)

    @jax.jit
    def act(qpos, qvel, ctrl):
        def one(weights, qpos, qvel, ctrl):
            seen = definition.observe(Physics(qpos, qvel, ctrl, jnp.zeros_like(qvel)))
            action = definition.action_space.select(view.to_policy(weights)(seen))
            return definition.control(action)

        return jax.vmap(one)(population, qpos, qvel, ctrl)

    controls = []
    for _ in range(task.horizon):
        single = (x.astype(np.float32) for x in (batch.qpos, batch.qvel, batch.ctrl))
        controls.append(np.asarray(act(*single)))
        batch.ctrl[:] = controls[-1]
        batch.step(nstep=definition.frame_skip)
    return np.stack(controls, axis=1)


def _random(task: NativeTask, size: int) -> np.ndarray:
    """Controls drawn uniformly, `(policies, steps, controls)`."""
    random = np.random.default_rng(0)
    low, high = task.model.actuator_ctrlrange.T
    return random.uniform(low, high, (size, task.horizon, task.model.nu))


def _starts(task: NativeTask, size: int) -> tuple[np.ndarray, np.ndarray]:
    keys = jr.split(jr.key(0), size)
    qpos, qvel = jax.vmap(lambda key: task.definition.initial(key=key))(keys)
    return np.asarray(qpos), np.asarray(qvel)


def limit(task: NativeTask, controls: np.ndarray) -> Callable[[], int]:
    """`mujoco.rollout` with these controls, no policy and no reward."""
    model = task.model
    size, steps, _ = controls.shape
    threads = len(os.sched_getaffinity(0))
    data = [mujoco.MjData(model) for _ in range(threads)]
    state = np.zeros((size, mujoco.mj_stateSize(model, _FULL)))
    for i, (qpos, qvel) in enumerate(zip(*_starts(task, size), strict=True)):
        data[0].qpos[:], data[0].qvel[:] = qpos, qvel
        mujoco.mj_getState(model, data[0], state[i], _FULL)
    held = controls.repeat(task.definition.frame_skip, axis=1).astype(np.float64)
    pool = mujoco.rollout.Rollout(nthread=threads)

    def run() -> int:
        pool.rollout(model, data, state, held)
        return size * steps

    return run


_FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS.value


def _jax(
    task: Any, view: FlatView, population: jax.Array, episodes: int = 1
) -> Callable[[], int]:
    """Our rollout inside `jax.jit`: MJX, or a task in closed form."""
    all_episodes = compile_rollout(task, view.to_policy, episodes=episodes)

    def run() -> int:
        return int(jnp.sum(all_episodes(population, key=jr.key(0)).length))

    return run


def _gymnasium(env: str, view: FlatView, population: jax.Array) -> Callable[[], int]:
    """Gymnasium's vector environment in this process, the policies in one XLA call."""
    size = len(population)
    made = gymnasium.make_vec(GYMNASIUM[env], num_envs=size, vectorization_mode="sync")
    steps = horizon_of("gymnasium", size)

    @jax.jit
    def act(population, seen):
        def one(weights, seen):
            policy = view.to_policy(weights)
            return policy.action_space.select(policy(seen))

        return jax.vmap(one)(population, seen)

    def run() -> int:
        seen, _ = made.reset(seed=0)
        for _ in range(steps):
            actions = np.asarray(act(population, seen.astype(np.float32)))
            seen, *_ = made.step(actions)
        return size * steps

    return run


def _brax(size: int) -> Callable[[], int]:
    """Brax's own ant, another model, with policies of its sizes in one XLA call."""
    import brax.envs  # pyright: ignore[reportMissingImports]

    env: Any = brax.envs.get_environment("ant")
    steps = horizon_of("jax", size)
    sizes = (env.observation_size, *HIDDEN, env.action_size)

    def one(key):
        reset_key, *keys = jr.split(key, len(sizes))
        layers = [
            eqx.nn.Linear(a, b, key=own)
            for a, b, own in zip(sizes[:-1], sizes[1:], keys, strict=True)
        ]

        def step(state, _):
            x = state.obs
            for layer in layers:
                x = jnp.tanh(layer(x))
            return env.step(state, x), None

        state, _ = jax.lax.scan(step, env.reset(reset_key), length=steps)
        return jnp.sum(state.obs)

    compiled = jax.jit(jax.vmap(one))
    keys = jr.split(jr.key(1), size)

    def run() -> int:
        jax.block_until_ready(compiled(keys))
        return size * steps

    return run


def _short_episodes(size: int = 1024, repeats: int = 5) -> dict[str, Any]:
    """Double pendulums, which fall at once: with time for 1,000 steps and for 8."""
    runs = {}
    for horizon in (1000, 8):
        task = make("inverted_double_pendulum", physics="mujoco", horizon=horizon)
        assert isinstance(task, NativeTask)
        view, population = _population(task, size)
        runs[horizon] = (NativeRollout(task, view.to_policy), population)
    seconds: dict[int, list[float]] = {horizon: [] for horizon in runs}
    lengths = {}
    for _ in range(repeats + 1):
        for horizon, (run, population) in runs.items():
            began = time.perf_counter()
            lengths[horizon] = np.asarray(run(population, key=jr.key(0)).length)
            seconds[horizon].append(time.perf_counter() - began)
    # The first ones compile.
    medians = {horizon: float(np.median(all_[1:])) for horizon, all_ in seconds.items()}
    return {
        "num_envs": size,
        "mean_length": float(lengths[1000].mean()),
        "longest": int(lengths[1000].max()),
        "seconds_with_1000_steps": medians[1000],
        "seconds_with_8_steps": medians[8],
    }


# The first control step of 1,024 ants, in a process of its own.
_FIRST_STEP = """
import sys
import jax, jax.numpy as jnp, jax.random as jr
from applications.envs import make
from applications.policies import FlatView, MLPPolicy
from applications.rollout import compile_rollout
task = make("ant", physics=sys.argv[1], horizon=1)
view = FlatView(MLPPolicy(task, (64, 64), key=jr.key(0)))
population = jnp.zeros((1024, view.space.size))
run = compile_rollout(task, view.to_policy, episodes=1)
episodes = run(population, key=jr.key(0))
jax.block_until_ready(episodes.total_reward)
"""


def _startup() -> dict[str, list[float]]:
    """Seconds to the end of a first step: cold, then twice with what is cached."""
    seconds: dict[str, list[float]] = {}
    for engine in ("mujoco", "mjx"):
        with tempfile.TemporaryDirectory() as cache:
            environment = {
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "JAX_COMPILATION_CACHE_DIR": cache,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
            }
            seconds[engine] = []
            for _ in range(3):
                began = time.perf_counter()
                command = [sys.executable, "-c", _FIRST_STEP, engine]
                subprocess.run(command, env=environment, check=True)
                seconds[engine].append(time.perf_counter() - began)
    return seconds


def _markdown(result: dict[str, Any]) -> str:
    lines = [
        "| task | policies | physics alone | ours, C engine | share | ours, JAX "
        "| Gymnasium | Brax |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def shown(row: dict[str, Any], name: str) -> str:
        rates = row["steps_per_second"]
        return f"{rates[name] / 1e3:,.1f} k" if name in rates else ""

    for row in result["rows"]:
        ratios = row.get("ratio_to_limit", {})
        share = f"{ratios['native']:.2f}" if "native" in ratios else ""
        lines.append(
            f"| `{row['env']}` | {row['num_envs']:,} | {shown(row, 'limit')} "
            f"| {shown(row, 'native')} | {share} | {shown(row, 'jax')} "
            f"| {shown(row, 'gymnasium')} | {shown(row, 'brax')} |"
        )
    short = result["short_episodes"]
    startup = {
        engine: ", ".join(f"{second:.1f}" for second in seconds)
        for engine, seconds in result["startup_seconds"].items()
    }
    lines += [
        "",
        f"Episodes that end early: {short['num_envs']:,} double pendulums fall after "
        f"{short['mean_length']:.1f} steps, the last one after {short['longest']}. "
        f"With time for 1,000 steps they take {short['seconds_with_1000_steps']:.3f} "
        f"s, with time for 8 they take {short['seconds_with_8_steps']:.3f} s.",
        "",
        "Seconds from the start of Python to the end of the first step of 1,024 ants, "
        "with an empty compilation cache and twice more with what that left: C engine "
        f"{startup['mujoco']}; MJX {startup['mjx']}.",
    ]
    return "\n".join(lines)


@in_style()
def _figure(rows: list[dict[str, Any]]) -> Figure:
    envs = list(dict.fromkeys(row["env"] for row in rows))
    figure, grid = panels(len(envs), 2, 2.4)
    labels = {
        "limit": "physics alone, same controls",
        "limit_random": "physics alone, random controls",
        "native": "ours, C engine",
        "jax": "ours, in JAX",
        "gymnasium": "Gymnasium, vectorised",
        "brax": "Brax, its own ant",
    }
    colours = ("0.6", "0.3", "tab:blue", "tab:orange", "tab:green", "tab:red")
    for axes, env in zip(grid, envs, strict=True):
        mine = [row for row in rows if row["env"] == env]
        for (name, label), colour in zip(labels.items(), colours, strict=True):
            points = [
                (row["num_envs"], row["steps_per_second"][name])
                for row in mine
                if name in row["steps_per_second"]
            ]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, "o-", ms=4, color=colour, label=label)
        axes.set(title=env, xscale="log", yscale="log", xlabel="policies")
        # A few round numbers, and none between them.
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_minor_formatter(NullFormatter())
    figure.supylabel("control steps a second", fontsize="medium")
    legend_below(figure, grid, ncols=3)
    return figure


if __name__ == "__main__":
    main()
