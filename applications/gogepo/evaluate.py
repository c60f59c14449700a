"""``python -m applications.gogepo.evaluate DIR``: what is done of what is commanded."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import tyro
from jaxtyping import Array, Float
from scipy.stats import spearmanr

from applications.gogepo._runs import (
    draw_commands,
    draw_policies,
    open_run,
    snapshots,
)
from applications.gogepo.algorithm import GoGePo, Model, State
from applications.rollout import compile_rollout
from applications.settings import AtLeast, check_settings, Count, Seed, UserError
from applications.training import (
    check_directory,
    exit_on_user_error,
    key_for,
    load_checkpoint,
    Purpose,
    Run,
    save_figure,
    write_json,
)


_PROG = "python -m applications.gogepo.evaluate"
# Standard normal observations on which policies are compared, if the evaluator shows
# them none.
_SHOWN = 32
# Policies on the generator's path.
_PATH = 101
# Latents by which policies for one command are told apart.
_DRAWS = 16


@dataclasses.dataclass(frozen=True)
class EvaluateArgs:
    """Commands what a run has learned, and draws what was done against it."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Directory of a run."""

    commands: Annotated[int, AtLeast(2)] = 21
    """How many commands, evenly over the range from the least to the best outcome."""

    low: float | None = None
    """The first of them. The least outcome that the run has seen unless given."""

    high: float | None = None
    """The last of them. The best outcome that the run has seen unless given."""

    episodes: Count = 10
    """Episodes for each command."""

    seed: Seed = 0
    """Seed of the start states, and of latents."""


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Examines as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    asked = tyro.cli(EvaluateArgs, prog=_PROG, args=arguments)
    check_settings(asked)
    if asked.low is not None and asked.high is not None and asked.low >= asked.high:
        raise UserError(f"--low {asked.low} must be below --high {asked.high}.")
    check_directory(asked.path, "DIR")
    opened = open_run(asked.path)
    run, algorithm = opened.run, opened.search
    models = snapshots(opened)
    last = list(models.values())[-1]
    commands = _commands(last, asked)
    curve_of = _curves(algorithm, commands, asked)
    curves = []
    for iteration, model in models.items():
        curves.append({"iteration": iteration, **curve_of(model)})
        print(_summary(curves[-1]), flush=True)
    write_json(
        run.directory / "commands.json",
        {
            "names": algorithm.commands.names,
            "episodes": asked.episodes,
            **{k: v for k, v in curves[-1].items() if k != "iteration"},
            "snapshots": curves,
        },
    )
    _save(draw_commands(curves, algorithm.commands.names), run, "commands.png")
    state, progress, notes = load_checkpoint(
        run.checkpoints, opened.form, opened.checkpoint_settings
    )
    for note in notes:
        print(note, file=sys.stderr)
    if not progress.iteration:
        raise UserError(f"{run.checkpoints} is empty: no archive to draw policies of.")
    _save(_policies(algorithm, state), run, "policies.png")
    for name in ("commands.json", "commands.png", "policies.png"):
        print(f"Written: {run.directory / name}")
    return 0


def _commands(model: Model, asked: EvaluateArgs) -> Float[Array, "commands outcomes"]:
    """Evenly from the least to the best outcome; further numbers in proportion."""
    least, best = model.outcomes.least, model.outcomes.best
    low = least if asked.low is None else jnp.asarray(asked.low)
    high = best[0] if asked.high is None else jnp.asarray(asked.high)
    part = jnp.linspace(0.0, 1.0, asked.commands)
    first = low + part * (high - low)
    span = best[0] - least
    share = jnp.where(span > 0, (first - least) / jnp.where(span > 0, span, 1.0), 1.0)
    rest = share[:, None] * best[None, 1:]
    return jnp.concatenate([first[:, None], rest], axis=1)


def _curves(
    algorithm: GoGePo, commands: Array, asked: EvaluateArgs
) -> Callable[[Model], dict[str, Any]]:
    """From a model to what its policies for commands do, and are expected to.

    With latents also their share of the variance of what policies answer: 0 if all for
    one command are alike, 1 if the command makes no difference.
    """
    key = key_for(asked.seed, Purpose.EVALUATE)
    given = np.asarray(commands)
    has_latents = algorithm.config.generator == "latent"

    @eqx.filter_jit
    def write(model):
        weights = algorithm.generate(model, commands, key=key)
        expected = algorithm.predict(model, weights)
        return algorithm.fold_normalisation(weights, model.observations), expected

    @eqx.filter_jit
    def latent_share(model):
        def draw(key):
            weights = algorithm.generate(model, commands, key=key)
            return _answers(algorithm, model, weights)

        answers = jax.lax.map(draw, jr.split(key, _DRAWS))
        return answers.var(axis=0).mean() / answers.var(axis=(0, 1)).mean()

    run = compile_rollout(
        algorithm.task, algorithm.view.to_policy, episodes=asked.episodes
    )

    def curve_of(model):
        acting, expected = write(model)
        outcomes = np.asarray(algorithm.commands.measure(run(acting, key=key)))
        achieved = outcomes.mean(axis=1)
        return {
            "commanded": given.tolist(),
            "achieved": achieved.tolist(),
            "achieved_std": outcomes.std(axis=1).tolist(),
            "predicted": np.asarray(expected).tolist(),
            "rank_correlation": _rank_correlation(given[:, 0], achieved[:, 0]),
            "mean_error": float(np.abs(given[:, 0] - achieved[:, 0]).mean()),
            "best_achieved": float(achieved[:, 0].max()),
            **({"latent_share": latent_share(model).item()} if has_latents else {}),
        }

    return curve_of


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Spearman's; None where one of them does not vary."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    result: Any = spearmanr(x, y)
    return float(result.statistic)


def _summary(curve: dict[str, Any]) -> str:
    correlation = curve["rank_correlation"]
    shown = "-" if correlation is None else f"{correlation:.3f}"
    return (
        f"Iteration {curve['iteration']}: rank correlation of commanded and achieved "
        f"{shown}, off by {curve['mean_error']:.1f} on average, best achieved "
        f"{curve['best_achieved']:.1f}"
    )


def _policies(algorithm: GoGePo, state: State) -> Any:
    """Policies by their answers: those of the archive, and those on command."""
    model = algorithm.model(state)
    commands = model.outcomes.between(_PATH)
    answers = eqx.filter_jit(lambda weights: _answers(algorithm, model, weights))
    path = answers(algorithm.generate(model, commands))
    there = np.asarray(
        state.learned.archive.filled & state.learned.archive.entries.valid
    )
    tried = np.asarray(answers(state.learned.archive.entries.weights))[there]
    outcomes = np.asarray(state.learned.archive.entries.outcome[:, 0])[there]
    return draw_policies(
        tried,
        outcomes,
        np.asarray(path),
        np.asarray(commands[:, 0]),
        algorithm.commands.names[0],
    )


def _answers(
    algorithm: GoGePo, model: Model, population: Float[Array, "policies weights"]
) -> Float[Array, "policies answers"]:
    """What policies say to the evaluator's probing states."""
    shown = getattr(model.value.encoder, "probes", None)
    if shown is None:
        shown = jr.normal(jr.key(0), (_SHOWN, algorithm.task.observation_size))

    def of_policy(weights):
        return jax.vmap(algorithm.view.to_policy(weights))(shown).ravel()

    return jax.vmap(of_policy)(population)


def _save(figure: Any, run: Run, name: str) -> None:
    save_figure(figure, run.directory / name)


if __name__ == "__main__":
    sys.exit(main())
