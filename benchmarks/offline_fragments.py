"""Policies from fragments of behaviour that no return is known of.

On swimmer, 500 random linear policies act for 200 steps each, five in every episode: no
policy is ever seen for a whole episode, so that V(θ) has nothing to learn from. PSVF
learns V(s, θ) from these 100,000 steps by λ-returns; then new random policies climb its
mean over the stored states, and nothing acts any more. Returns are looked at
afterwards. Controls: V by one-step TD, and V of rewards that were shuffled over the
policies.

    python benchmarks/offline_fragments.py
"""

import argparse
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _common import fill, write
from jaxtyping import Array
from matplotlib.figure import Figure

from applications.envs import make
from applications.pvf import Config, PVF
from applications.pvf._frame import Frame, scale_of_rewards
from applications.pvf._learning import Actor, ascend, fit_critic, scan_modules
from applications.rollout import compile_rollout


_ENVS, _SEGMENT, _ROUNDS = 10, 200, 50
_NEW, _CHECKS, _EVERY, _EPISODES = 8, 12, 250, 5
_FITS, _FIT = 10, 2000
_KINDS = {"λ-returns": 0.95, "one-step TD": 0.0, "shuffled": 0.95}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="swimmer")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--noise", type=float, default=1.0, help="of random policies")
    parser.add_argument("--fits", type=int, default=_FITS, help=f"times {_FIT} updates")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    rows = [row for seed in range(arguments.seeds) for row in _one(arguments, seed)]
    table = _table(rows)
    print(table)
    if arguments.dry:
        return
    command = "python benchmarks/offline_fragments.py"
    write("offline_fragments", command, {"rows": rows}, draw(rows))
    fill("experiments.md", "fragments", table)


def _one(arguments: Any, seed: int) -> list[dict[str, Any]]:
    task = make(arguments.task, physics="mujoco")
    config = Config(
        critic="psvf",
        representation="flat",
        inputs="noise",
        noise_scale=arguments.noise,
        action_noise=0.0,
        num_envs=_ENVS,
        segment=_SEGMENT,
        rounds=_ROUNDS,
        steps=_ENVS * _SEGMENT * _ROUNDS,
        discount=0.99,
        # While the data are made nothing is learned to speak of.
        steps_per_update=_ENVS * _SEGMENT,
        policy_delay=1,
        policy_lr=1e-9,
        replay=_ENVS * _SEGMENT * _ROUNDS,
        batch_segments=16,
        batch_steps=50,
        policy_states=1024,
        eval_episodes=1,
        fresh_policies=0,
    )
    search = PVF(task, config)
    state = search.begin(key=jr.key(seed))
    state, _ = search.compile(state)(state)
    replay = state.learned.replay
    judge = compile_rollout(task, search.view.to_policy, episodes=_EPISODES)

    def returns_of(shown: Array) -> np.ndarray:
        acting = search.fold_normalisation(shown, state.observations)
        return np.asarray(judge(acting, key=jr.key(seed)).total_reward.mean(axis=1))

    kept = replay.segments.entries.weights
    assert kept is not None
    behaviour = np.asarray(judge(kept, key=jr.key(1)).total_reward.mean(axis=1))
    fresh = jr.normal(jr.fold_in(jr.key(seed), 7), (64, search.view.space.size))
    fresh = arguments.noise * fresh
    fresh_returns = returns_of(fresh)
    starts = fresh[:_NEW]
    rows = []
    for kind, trace in _KINDS.items():
        learner = dataclasses.replace(config, lambda_=trace, policy_lr=3e-3)
        data = replay
        if kind == "shuffled":
            entries = replay.segments.entries
            order = jr.permutation(jr.key(seed), len(entries.reward))
            data = eqx.tree_at(
                lambda replay: replay.segments.entries.weights,
                replay,
                entries.weights[order],
            )
        frame = Frame(
            *(learner, search.view, search.value, state.observations),
            *(
                jnp.asarray(arguments.noise),
                scale_of_rewards(config, data, task.horizon),
            ),
        )
        critic = _fitted(
            state.learned.actor, state.learned.critic, data, frame, arguments.fits
        )
        said = _values(search, critic, data, frame, fresh)
        path, values = _climbed(search, critic, data, frame, starts)
        returns = returns_of(path.reshape(-1, path.shape[-1])).reshape(path.shape[:2])
        rows.append(
            {
                "seed": seed,
                "kind": kind,
                "behaviour_mean": float(f"{behaviour.mean():.4g}"),
                "behaviour_best": float(f"{behaviour.max():.4g}"),
                "correlation": float(np.corrcoef(said, fresh_returns)[0, 1]),
                "updates": (np.arange(_CHECKS + 1) * _EVERY).tolist(),
                "returns": returns.round(1).tolist(),
                "values": np.asarray(values).round(3).tolist(),
            }
        )
        print(
            f"{seed} {kind}: data {behaviour.mean():.0f}, best {behaviour.max():.0f}; "
            f"correlation {rows[-1]['correlation']:.2f}; "
            f"{np.median(returns, axis=1).round().tolist()}",
            flush=True,
        )
    return rows


def _fitted(actor: Any, critic: Any, data: Any, frame: Frame, fits: int) -> Any:
    @eqx.filter_jit
    def fit(critic: Any, data: Any, frame: Frame, key: Array) -> Any:
        both = lambda critic: (critic.critics, critic.target)
        compared = [frame.compare(x, actor.weights, data) for x in both(critic)]
        critic = eqx.tree_at(both, critic, tuple(compared))

        def update(critic: Any, key: Array) -> Any:
            (_, after), metrics = fit_critic(actor, critic, data, frame, key=key)
            return after, metrics

        return scan_modules(update, critic, jr.split(key, _FIT))[0]

    for part in range(fits):
        critic = fit(critic, data, frame, jr.fold_in(jr.key(3), part))
    return critic


@eqx.filter_jit
def _values(search: PVF, critic: Any, data: Any, frame: Frame, weights: Array) -> Array:
    """Mean values of policies over stored states."""
    seen = data.sample(512, 1, key=jr.key(5)).observation[:, 0]
    states = frame.states(seen)

    def of_one(row: Array) -> Array:
        to_policy: Any = search.view.to_policy
        values = search.value.of_policy(
            critic.critics, frame.read(row), to_policy(row), states, key=jr.key(0)
        )
        return jnp.mean(values)

    return jax.vmap(of_one)(weights)


@eqx.filter_jit
def _climbed(
    search: PVF, critic: Any, data: Any, frame: Frame, starts: Array
) -> tuple[Array, Array]:
    """New policies on their way, `(checks, policies, weights)`, and their values."""

    def update(actor: Any, key: Array) -> Any:
        return ascend(actor, critic, data, frame, key=key)[0], None

    def of_one(start: Array, key: Array) -> Any:
        actor, found = Actor.start(start, frame.config), [start]
        for check in range(_CHECKS):
            keys = jr.split(jr.fold_in(key, check), _EVERY)
            actor, _ = jax.lax.scan(update, actor, keys)
            found.append(actor.weights)
        return jnp.stack(found)

    path = jax.vmap(of_one, out_axes=1)(starts, jr.split(jr.key(9), len(starts)))
    rows = path.reshape(-1, path.shape[-1])
    return path, _values(search, critic, data, frame, rows).reshape(path.shape[:2])


def _table(rows: list[dict[str, Any]]) -> str:
    """One line a kind of V; medians over seeds and policies."""
    lines = [
        "| V(s, θ) by | Behaviour, mean | Best of it | Correlation with returns | New "
        f"policies | After {_EVERY * 4} steps | After {_EVERY * _CHECKS} | Best |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in _KINDS:
        mine = [row for row in rows if row["kind"] == kind]
        returns = np.concatenate([row["returns"] for row in mine], axis=1)
        middle = lambda name, mine=mine: np.median([row[name] for row in mine])
        lines.append(
            f"| {kind} | {middle('behaviour_mean'):.0f} | "
            f"{middle('behaviour_best'):.0f} | {middle('correlation'):.2f} | "
            f"{np.median(returns[0]):.0f} | {np.median(returns[4]):.0f} | "
            f"{np.median(returns[-1]):.0f} | {returns[-1].max():.0f} |"
        )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Returns while policies climb, one line a policy; a panel a kind of V."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, len(_KINDS), sharey=True)
    for axes, kind in zip(panels, _KINDS, strict=True):
        mine = [row for row in rows if row["kind"] == kind]
        for i, row in enumerate(mine):
            axes.plot(row["updates"], row["returns"], color=f"C{i}", lw=0.7, alpha=0.6)
        best = np.median([row["behaviour_best"] for row in mine])
        axes.axhline(best, color="black", linestyle=":", label="best behaviour")
        axes.set(title=kind, xlabel="steps up V(s, θ)")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("return")
    figure.axes[0].legend(fontsize="small")
    return figure


if __name__ == "__main__":
    main()
