"""V of classifiers, whose probes turn into the pictures that tell them apart.

Offline: random CNNs, whose best accuracy is 12 %, and their losses on 512 pictures of
digits are all that V is told. V reads the classes that a CNN gives to learned probing
pictures. Then new random CNNs go down V by Adam, and see no picture. Online: random
CNNs and perturbations of them are tried, V is fitted to all losses so far, the CNNs go
some steps down V, and so on. Baselines: the best of the random CNNs, V whose probes do
not learn, V of the weights, and ordinary training on the same pictures.

    python benchmarks/digits_value.py
"""

import argparse
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from _common import as_table, fill, write
from _style import band, in_style, WIDTH
from _teaching import Frozen
from jaxtyping import Array, Float, Int, PRNGKeyArray
from matplotlib.figure import Figure

from applications.policies import FlatView
from applications.values import RankTargets, value_function
from wsl import WeightSpace
from wsl.encoders import EncodedMLP, Flat, Probing
from wsl.zoo._digits import choose_images, load_images, split_images


_TOLD, _MOST = 512, 0.12
_CHECKS = (0, 300, 1000, 3000)
_STARTS = 5
_KINDS = {
    "learned": "classes of probes that learn",
    "frozen": "classes of probes that do not",
    "weights": "weights",
}
# Online: so many CNNs, perturbed once each in an iteration; half of V's batches are of
# the last iterations; updates of V, and steps of each CNN down it.
_NETWORKS, _NOISE, _RECENT, _UPDATES, _STEPS = 32, 0.05, 10, 40, 10
_RATE = 1e-3


class CNN(eqx.Module):
    """Two convolutions with pooling, and a layer to ten classes."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    last: eqx.nn.Linear
    pool: eqx.nn.MaxPool2d

    def __init__(self, *, key: PRNGKeyArray):
        keys = jr.split(key, 3)
        self.first = eqx.nn.Conv2d(1, 8, 3, padding=1, key=keys[0])
        self.second = eqx.nn.Conv2d(8, 16, 3, padding=1, key=keys[1])
        self.last = eqx.nn.Linear(64, 10, key=keys[2])
        self.pool = eqx.nn.MaxPool2d(2, 2)

    def __call__(self, picture: Float[Array, "8 8"]) -> Float[Array, " 10"]:
        x = self.pool(jax.nn.relu(self.first(picture[None])))
        x = self.pool(jax.nn.relu(self.second(x)))
        return self.last(x.ravel())


VIEW: FlatView[Any] = FlatView(CNN(key=jr.key(0)))


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures and their classes.

    Attributes:
        told: What losses are of, and ordinary training.
        test: What accuracies are of.
    """

    told: tuple[Float[Array, "n 8 8"], Int[Array, " n"]]
    test: tuple[Float[Array, "m 8 8"], Int[Array, " m"]]


def pictures() -> Pictures:
    """Both splits, of the zoo's digits."""
    images, digits = load_images()
    parts = split_images(digits)
    pick = lambda split, count: (
        jnp.asarray(images[choose_images(parts, split, count)]),
        jnp.asarray(digits[choose_images(parts, split, count)], jnp.int32),
    )
    return Pictures(pick("train", _TOLD), pick("test", 10_000))


def loss_of(weights: Array, data: tuple[Array, Array]) -> Float[Array, ""]:
    """Cross-entropy of one CNN."""
    images, digits = data
    logits = jax.vmap(VIEW.to_policy(weights))(images)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, digits)
    return jnp.mean(losses)


@eqx.filter_jit
def judged(weights: Array, data: tuple[Array, Array]) -> tuple[Array, Array]:
    """Losses and accuracies of many CNNs."""

    def of_one(row: Array) -> tuple[Array, Array]:
        images, digits = data
        found = jnp.argmax(jax.vmap(VIEW.to_policy(row))(images), axis=1)
        return loss_of(row, data), jnp.mean((found == digits).astype(jnp.float32))

    return jax.lax.map(of_one, weights, batch_size=64)


def drawn(count: int, *, key: PRNGKeyArray) -> Float[Array, "count weights"]:
    """New random CNNs."""
    draw = lambda key: VIEW.to_vector(CNN(key=key))
    return jax.lax.map(draw, jr.split(key, count), batch_size=256)


def make_value(kind: str, probes: int, *, key: PRNGKeyArray) -> EncodedMLP:
    """Draws V: of classes given to probes that learn, or do not, or of the weights."""
    probe_key, head_key = jr.split(key)
    if kind == "weights":
        encoder: Any = Flat(WeightSpace.from_spec(VIEW.like))
    else:
        encoder = Probing(
            (8, 8),
            10,
            probes,
            # In units of what random CNNs give: nearly the same to every class.
            map_answer=lambda logits: 10 * (jax.nn.softmax(logits) - 0.1),
            key=probe_key,
        )
        encoder = Frozen(encoder) if kind == "frozen" else encoder
    return value_function(encoder, 128, 2, key=head_key)


def probes_of(value: EncodedMLP) -> Float[Array, "probes 8 8"]:
    """The probing pictures of V."""
    encoder: Any = value.encoder
    encoder = encoder.encoder if isinstance(encoder, Frozen) else encoder
    return encoder.probes


def fitted(
    value: EncodedMLP,
    state: Any,
    optimiser: optax.GradientTransformation,
    weights: Float[Array, "n weights"],
    targets: Float[Array, " n"],
    there: Float[Array, " n"],
    *,
    updates: int,
    batch: int,
    key: PRNGKeyArray,
) -> tuple[EncodedMLP, Any]:
    """Steps of Adam on squared errors of batches, drawn in proportion to `there`."""

    def update(carry: Any, key: PRNGKeyArray) -> Any:
        arrays, state = carry
        chosen = jr.categorical(key, jnp.log(there), shape=(batch,))

        def error(arrays: Any) -> Array:
            whole = eqx.combine(arrays, rest)
            said = jax.vmap(lambda row: whole(VIEW.to_policy(row)))(weights[chosen])
            return jnp.mean(jnp.square(said - targets[chosen]))

        change, state = optimiser.update(jax.grad(error)(arrays), state)
        return (eqx.apply_updates(arrays, change), state), None

    arrays, rest = eqx.partition(value, eqx.is_inexact_array)
    (arrays, state), _ = jax.lax.scan(update, (arrays, state), jr.split(key, updates))
    return eqx.combine(arrays, rest), state


@eqx.filter_jit
def climbed(value: EncodedMLP, starts: Float[Array, "starts weights"]) -> Array:
    """CNNs on their way down V, `(checks, starts, weights)`."""
    return _descents(lambda row: value(VIEW.to_policy(row)), starts, _CHECKS)


@eqx.filter_jit
def trained(starts: Float[Array, "starts weights"], data: Any) -> Array:
    """CNNs on their way down the loss itself, likewise."""
    # Dear, and soon done.
    return _descents(lambda row: loss_of(row, data), starts[:2], _CHECKS[:3])


def _down(height: Any, optimiser: Any, row: Array, moments: Any, steps: int) -> Any:
    """A network's weights and the optimiser's moments after steps down a function."""

    def update(_: Any, carry: Any) -> Any:
        row, moments = carry
        change, moments = optimiser.update(jax.grad(height)(row), moments)
        return optax.apply_updates(row, change), moments

    return jax.lax.fori_loop(0, steps, update, (row, moments))


def _descents(height: Any, starts: Array, checks: tuple[int, ...]) -> Array:
    optimiser = optax.adam(1e-3)

    def of_one(row: Array) -> Array:
        moments, found = optimiser.init(row), [row]
        for before, after in zip(checks[:-1], checks[1:], strict=True):
            row, moments = _down(height, optimiser, row, moments, after - before)
            found.append(row)
        return jnp.stack(found)

    # One by one: convolutions of many networks at once are slow.
    return jnp.swapaxes(jax.lax.map(of_one, starts), 0, 1)


def offline(seed: int, count: int, probes: int, updates: int) -> dict[str, Any]:
    """All baselines of one seed; accuracies are those on test pictures."""
    data = pictures()
    keys = jr.split(jr.key(seed), 5)
    weights = drawn(count, key=keys[0])
    losses, accuracies = judged(weights, data.told)
    _, tested = judged(weights, data.test)
    # Of what does better than that, V is told nothing.
    there = (accuracies <= _MOST).astype(jnp.float32)
    targets = RankTargets(losses, there > 0)(losses)
    fresh = drawn(200, key=keys[1])
    fresh_losses, _ = judged(fresh, data.told)
    starts = drawn(_STARTS, key=keys[2])
    row: dict[str, Any] = {
        "seed": seed,
        "networks": count,
        "probes": probes,
        "told": int(there.sum()),
        "best_told": float(jnp.max(jnp.where(there > 0, accuracies, 0.0))),
        "best_tested": float(jnp.max(jnp.where(there > 0, tested, 0.0))),
        "spread_of_losses": float(jnp.std(losses)),
    }
    pictures_of = []
    optimiser = optax.adam(1e-3)
    for kind in _KINDS:
        value = make_value(kind, probes, key=keys[3])
        state = optimiser.init(eqx.filter(value, eqx.is_inexact_array))
        fit = eqx.filter_jit(fitted)
        parts = 4
        for part in range(parts):
            if kind == "learned":
                pictures_of.append(np.asarray(probes_of(value)).round(3).tolist())
            value, state = fit(
                *(value, state, optimiser, weights, targets, there),
                updates=updates // parts,
                batch=64,
                key=jr.fold_in(keys[4], part),
            )
        say = eqx.filter_jit(
            lambda value, rows: jax.vmap(lambda x: value(VIEW.to_policy(x)))(rows)
        )
        row[f"correlation_{kind}"] = float(
            jnp.corrcoef(say(value, fresh), fresh_losses)[0, 1]
        )
        row[f"accuracy_{kind}"] = _accuracies(climbed(value, starts), data)
        if kind == "learned":
            pictures_of.append(np.asarray(probes_of(value)).round(3).tolist())
        print(kind, row[f"correlation_{kind}"], row[f"accuracy_{kind}"][-1], flush=True)
    row["accuracy_trained"] = _accuracies(trained(starts, data.told), data)
    return row | {"pictures": pictures_of}


def online(seed: int, probes: int, kind: str, iterations: int) -> dict[str, Any]:
    """CNNs that go down a V which learns of nothing but their losses, from the start.

    Each iteration the losses of all CNNs and of one perturbation of each go into the
    archive, V is fitted to ranks of all losses so far, half of a batch to those of the
    last iterations, and each CNN takes some steps down V.
    """
    data = pictures()
    keys = jr.split(jr.key(seed), 3)
    value = make_value(kind, probes, key=keys[0])
    optimiser = optax.adam(_RATE)
    rows = drawn(_NETWORKS, key=keys[1])
    moments = jax.vmap(optimiser.init)(rows)
    state = optimiser.init(eqx.filter(value, eqx.is_inexact_array))
    batch = 2 * _NETWORKS
    archive = jnp.zeros((iterations * batch, rows.shape[1]))
    losses = jnp.zeros(len(archive))
    fit = eqx.filter_jit(fitted)

    @eqx.filter_jit
    def told(rows: Array, archive: Array, losses: Array, number: Array, key: Array):
        noise = _NOISE * jr.normal(key, rows.shape)
        tried = jnp.concatenate([rows, rows + noise])
        own, _ = judged(tried, data.told)
        at = number * batch
        archive = jax.lax.dynamic_update_slice(archive, tried, (at, 0))
        losses = jax.lax.dynamic_update_slice(losses, own, (at,))
        ages = number - jnp.arange(len(losses)) // batch
        known = ages >= 0
        recent = known & (ages < _RECENT)
        share = lambda rows: rows / jnp.sum(rows)
        weighed = 0.5 * share(known * 1.0) + 0.5 * share(recent * 1.0)
        targets = RankTargets(losses, known)(losses)
        return archive, losses, targets, weighed

    @eqx.filter_jit
    def descended(value: EncodedMLP, rows: Array, moments: Any) -> Any:
        height = lambda row: value(VIEW.to_policy(row))
        of_one = lambda row, moments: _down(height, optimiser, row, moments, _STEPS)
        return jax.vmap(of_one)(rows, moments)

    checks, found = [], []
    for number in range(iterations):
        draw_key, fit_key = jr.split(jr.fold_in(keys[2], number))
        archive, losses, targets, weighed = told(
            rows, archive, losses, jnp.asarray(number), draw_key
        )
        value, state = fit(
            *(value, state, optimiser, archive, targets, weighed),
            updates=_UPDATES,
            batch=64,
            key=fit_key,
        )
        rows, moments = descended(value, rows, moments)
        if (number + 1) % (iterations // 10) == 0:
            _, tested = judged(rows, data.test)
            checks.append((number + 1) * batch)
            found.append(np.asarray(tested).round(4).tolist())
            print(
                kind, seed, checks[-1], np.quantile(found[-1], [0, 0.5, 1]), flush=True
            )
    return {
        "seed": seed,
        "probes": probes,
        "kind": kind,
        "evaluations": checks,
        "accuracies": found,
    }


def _accuracies(weights: Float[Array, "checks starts weights"], data: Pictures) -> Any:
    _, found = judged(weights.reshape(-1, weights.shape[-1]), data.test)
    shape = weights.shape[:2]
    return np.asarray(found).reshape(shape).round(4).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--networks", type=int, default=4000)
    parser.add_argument("--probes", type=int, nargs="*", default=[10])
    parser.add_argument("--updates", type=int, default=4000)
    parser.add_argument("--iterations", type=int, default=100, help="online")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    few = arguments.probes[0]
    trials = [
        online(seed, few, kind, arguments.iterations)
        for seed in range(arguments.seeds)
        for kind in _KINDS
    ]
    rows = [
        offline(seed, arguments.networks, probes, arguments.updates)
        for seed in range(arguments.seeds)
        for probes in arguments.probes
    ]
    print(_table(rows), _online_table(trials), sep="\n\n")
    if arguments.dry:
        return
    command = "python benchmarks/digits_value.py"
    content = {"rows": rows, "online": trials}
    write("digits_value", command, content, draw(rows, trials))
    fill("experiments.md", "digits", _table(rows))
    fill("experiments.md", "digits online", _online_table(trials))


def _table(rows: list[dict[str, Any]]) -> str:
    """One line a number of probes; medians over seeds and starts."""
    titles = [
        *("Probes", "Networks", "Best that V was told of"),
        *(f"Down V, {check:,} steps" for check in _CHECKS[1:]),
        *("Probes that do not learn", "V of weights", "Ordinary training"),
    ]
    lines = []
    for probes in dict.fromkeys(row["probes"] for row in rows):
        mine = [row for row in rows if row["probes"] == probes]
        lines.append(
            [
                str(probes),
                f"{np.median([row['told'] for row in mine]):,.0f}",
                f"{100 * np.median([row['best_tested'] for row in mine]):.0f} %",
                *(_middle(mine, "learned", check) for check in range(1, len(_CHECKS))),
                *(_middle(mine, name, -1) for name in ("frozen", "weights", "trained")),
            ]
        )
    return as_table(titles, lines)


def _middle(rows: list[dict[str, Any]], name: str, check: int) -> str:
    """The median accuracy at a check."""
    found = np.concatenate([row[f"accuracy_{name}"][check] for row in rows])
    return f"{100 * np.median(found):.0f} %"


def _online_table(trials: list[dict[str, Any]]) -> str:
    """One line a kind of V: accuracies of all CNNs of a seed, median and best."""
    titles = ["V of", "evaluations", "medians of the seeds", "best of each seed"]
    lines = []
    for kind, told in _KINDS.items():
        mine = [trial for trial in trials if trial["kind"] == kind]
        last = [np.array(trial["accuracies"][-1]) for trial in mine]
        lines.append(
            [
                told,
                f"{mine[0]['evaluations'][-1]:,}",
                ", ".join(f"{100 * np.median(found):.0f} %" for found in last),
                ", ".join(f"{100 * np.max(found):.0f} %" for found in last),
            ]
        )
    return as_table(titles, lines)


@in_style()
def draw(rows: list[dict[str, Any]], trials: list[dict[str, Any]]) -> Figure:
    """Ten probes of one V, a row a time of the fit; and accuracies online.

    Args:
        rows: What `offline` gives.
        trials: What `online` gives.

    Returns:
        The picture.
    """
    shown = np.asarray(rows[0]["pictures"])[:, :10]
    figure = Figure(figsize=(WIDTH, 0.75 * len(shown) + 2.8), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[0.75 * len(shown), 2.6])
    above, below = parts
    grid = above.subplots(len(shown), shown.shape[1])
    for panels, pictures_of in zip(grid, shown, strict=True):
        for axes, picture in zip(panels, pictures_of, strict=True):
            axes.imshow(picture, cmap="gray", vmin=-0.3, vmax=1.3)
            axes.set(xticks=[], yticks=[])
    for i, panels in enumerate(grid):
        share = i / (len(grid) - 1)
        panels[0].set_ylabel(f"{share:.0%}", rotation=0, ha="right", va="center")
    axes = below.subplots()
    for i, (kind, told) in enumerate(_KINDS.items()):
        mine = [trial for trial in trials if trial["kind"] == kind]
        band(
            axes,
            [np.array(trial["evaluations"]) / 1e3 for trial in mine],
            [[100 * np.median(x) for x in trial["accuracies"]] for trial in mine],
            color=f"C{i}",
            label=told,
        )
    axes.set_xlabel("thousand losses of networks")
    axes.set_ylabel("accuracy in %")
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
