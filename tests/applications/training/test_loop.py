"""What the loop keeps, and what it refuses to."""

import functools
import io
import re

import jax.numpy as jnp
import pytest
import rich.console
import rich.progress

from applications.settings import UserError
from applications.training import (
    checkpoints,
    Interrupt,
    loop,
    Manifest,
    Progress,
    ProgressLine,
    read_rows,
    Run,
    StopRule,
)


def _run(directory, states, *, loss=1.0, every=1, must_be_finite=("loss",)):
    """Trains through given states, the last one with a loss."""
    run = Run.create(directory, Manifest("toy", {}))
    saved = []

    def step(state):
        number = int(state["number"]) + 1
        last = number == len(states) - 1
        metrics = {"loss": loss if last else 1.0, "env_steps": 10}
        return {"number": jnp.asarray(number), "x": states[number]}, {
            name: jnp.asarray(value) for name, value in metrics.items()
        }

    try:
        loop(
            run,
            lambda state: step,
            {"number": jnp.asarray(0), "x": states[0]},
            Progress(),
            stop=StopRule(len(states) - 1),
            checkpoint_every=every,
            settings={},
            save=saved.append,
            must_be_finite=must_be_finite,
            interrupt=Interrupt(),
        )
    finally:
        numbers = [number for number, _ in checkpoints(run.checkpoints)]
        kept = [int(state["number"]) for state in saved]
    return run, numbers, kept


_SOUND = jnp.array([1.0, -3e38])


def test_a_run(tmp_path):
    run, numbers, saved = _run(tmp_path / "run", [_SOUND] * 4)
    assert numbers == saved == [1, 2, 3]
    assert [row["env_steps"] for row in read_rows(run.metrics)] == [10, 20, 30]


@pytest.mark.parametrize(
    "bad", [jnp.array([jnp.nan, 0.0]), jnp.array([jnp.inf]).astype(jnp.bfloat16)]
)
def test_a_state_that_is_not_finite_is_not_kept(tmp_path, bad):
    with pytest.raises(UserError, match=r"state's \['x'\] is not finite") as caught:
        _run(tmp_path / "run", [_SOUND, _SOUND, bad])
    assert str(caught.value).endswith("The last checkpoint is of iteration 1.")
    assert len(str(caught.value).splitlines()) == 1
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["00000001.ckpt"]
    # Nor if it is the first that would be kept.
    with pytest.raises(UserError, match="There is no checkpoint from before"):
        _run(tmp_path / "other", [_SOUND, _SOUND, bad], every=5)
    assert not list((tmp_path / "other" / "checkpoints").iterdir())


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 6e26, -2e18])
def test_a_loss_beyond_all_bounds_ends_the_run(tmp_path, loss):
    with pytest.raises(UserError, match="loss of iteration 2, .*, is not finite any"):
        _run(tmp_path / "run", [_SOUND] * 3, loss=loss)
    assert [n for n, _ in checkpoints(tmp_path / "run" / "checkpoints")] == [1]
    # Control: a metric that may be anything.
    _, numbers, _ = _run(tmp_path / "b", [_SOUND] * 3, loss=loss, must_be_finite=())
    assert numbers == [1, 2]


@pytest.mark.parametrize(("width", "whole"), [(60, False), (80, False), (160, True)])
def test_a_narrow_terminal_shortens_the_text_alone(width, whole, monkeypatch):
    assert rich.progress  # made before what it draws on is replaced
    stream = io.StringIO()
    console = functools.partial(
        rich.console.Console, file=stream, force_terminal=True, width=width
    )
    monkeypatch.setattr(rich.console, "Console", console)
    text = (
        "return 24.6  perturbed 383.6 (max 1000.0)  correlation +0.55  35,873 steps/s"
    )
    line = ProgressLine(Progress(), StopRule(20, "iterations"), lambda row: text)
    with line:
        for iteration in (1, 20):
            line.write({"iteration": iteration})
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    (last,) = {x for x in re.split(r"[\r\n]+", plain) if "20/20" in x}
    assert len(last.rstrip()) <= width
    assert re.search(r"━{10,} +20/20 +\S*:\S* ", last)
    assert (text in last) == whole and "return 24.6" in last
    assert whole or "…" in last
