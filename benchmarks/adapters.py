"""A zoo of low-rank adapters: what was each trained for, in whatever gauge it comes?

A perceptron for scikit-learn's digits is trained once. Adapters of ranks 2 to 8 then
teach it to call one digit by the next one's name; which digit, is what encoders read
from the factors. Half of the tests are under random gauges, B G and G⁻¹ A, which change
no adapter.

python -m benchmarks.adapters
"""

import argparse
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from matplotlib.figure import Figure

import wsl
from benchmarks._common import fill, write
from benchmarks._style import in_style, legend_below, panels
from wsl.matching import canonical_factors, Factors, singular_values


_SIZES = {"first": (64, 64), "second": (64, 64), "last": (64, 10)}
_RANKS, _STEPS = (2, 4, 8), 60
_WIDEST = max(_RANKS)


def _data() -> tuple[jax.Array, jax.Array]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return jnp.asarray(images / 8.0 - 1.0, jnp.float32), jnp.asarray(labels)


def _answer(base: Any, adapter: Any, x: jax.Array) -> jax.Array:
    for i, name in enumerate(_SIZES):
        left, right = adapter[name] if adapter else (jnp.zeros((1, 1)),) * 2
        x = x @ base[name] + ((x @ left) @ right if adapter else 0.0)
        x = jax.nn.relu(x) if i < 2 else x
    return x


def _loss(base: Any, adapter: Any, x: Any, y: Any) -> jax.Array:
    logits = _answer(base, adapter, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def _descend(loss: Any, start: Any, rate: float, steps: int, key: Any) -> Any:
    optimiser = optax.adam(rate)

    def step(carry: Any, key: Any) -> Any:
        weights, state = carry
        updates, state = optimiser.update(jax.grad(loss)(weights, key), state)
        return (optax.apply_updates(weights, updates), state), None

    keys = jr.split(key, steps)
    return jax.lax.scan(step, (start, optimiser.init(start)), keys)[0][0]


def _make_zoo(number: int, key: Any) -> tuple[list[Any], np.ndarray]:
    """Adapters of all ranks, padded to the widest with components of size 0."""
    images, labels = _data()
    base_key, key = jr.split(key)
    keys = jr.split(base_key, 4)
    start = {
        name: jr.normal(k, shape) * (2.0 / shape[0]) ** 0.5
        for (name, shape), k in zip(_SIZES.items(), keys, strict=False)
    }
    whole = lambda weights, _: _loss(weights, None, images, labels)
    base = jax.jit(lambda w: _descend(whole, w, 3e-3, 200, keys[3]))(start)

    def train(key: Any, digit: jax.Array, rank: int) -> Any:
        start_key, order = jr.split(key)
        adapter = {
            name: (
                jr.normal(k, (shape[0], rank)) / shape[0] ** 0.5,
                jnp.zeros((rank, shape[1])),
            )
            for (name, shape), k in zip(
                _SIZES.items(), jr.split(start_key, 3), strict=True
            )
        }
        wanted = jnp.where(labels == digit, (digit + 1) % 10, labels)

        def loss(adapter: Any, key: Any) -> jax.Array:
            chosen = jr.randint(key, (128,), 0, len(images))
            return _loss(base, adapter, images[chosen], wanted[chosen])

        return _descend(loss, adapter, 1e-2, _STEPS, order)

    adapters, digits = [], []
    for rank in _RANKS:
        rank_key, key = jr.split(key)
        share = number // len(_RANKS)
        chosen = np.arange(share) % 10
        run = jax.jit(jax.vmap(lambda k, d, rank=rank: train(k, d, rank)))
        found = run(jr.split(rank_key, share), jnp.asarray(chosen))
        adapters += [_pad(one) for one in wsl.unstack(found)]
        digits += chosen.tolist()
    return adapters, np.asarray(digits)


def _pad(adapter: Any) -> Any:
    padded = {}
    for name, (left, right) in adapter.items():
        more = _WIDEST - left.shape[1]
        padded[name] = (
            jnp.pad(left, ((0, 0), (0, more))),
            jnp.pad(right, ((0, more), (0, 0))),
        )
    return padded


def _gauge(adapter: Any, random: np.random.Generator) -> Any:
    """The same products in another gauge, far from a rotation."""
    moved = {}
    for name, (left, right) in adapter.items():
        turn, _ = np.linalg.qr(random.standard_normal((_WIDEST, _WIDEST)))
        gauge = turn * np.exp(random.uniform(-3.0, 3.0, _WIDEST))
        moved[name] = (
            jnp.asarray(np.asarray(left, float) @ gauge, jnp.float32),
            jnp.asarray(np.linalg.solve(gauge, np.asarray(right, float)), jnp.float32),
        )
    return moved


def _raw(adapter: Any) -> jax.Array:
    return jnp.concatenate([x.ravel() for pair in adapter.values() for x in pair])


def _statistics(adapter: Any) -> jax.Array:
    found = []
    for pair in adapter.values():
        for x in pair:
            found += [x.mean(), x.std(), jnp.abs(x).max(), jnp.abs(x).mean()]
    return jnp.stack(found)


def _canonical(adapter: Any) -> jax.Array:
    pairs = [canonical_factors(_narrow(pair)) for pair in adapter.values()]
    return jnp.concatenate([x.ravel() for pair in pairs for x in pair])


def _values(adapter: Any) -> jax.Array:
    return jnp.concatenate([singular_values(_narrow(p)) for p in adapter.values()])


def _narrow(pair: Any) -> Factors:
    return Factors(*pair)


def _perceptron(size: int, key: Any) -> Any:
    return eqx.nn.MLP(size, 10, 128, 1, key=key)


def _fit(encode: Any, model: Any, stack: Any, digits: np.ndarray, key: Any) -> Any:
    """Trains what reads the features, and the encoder if it has parameters."""
    optimiser = optax.adamw(1e-3, weight_decay=1e-2)

    @eqx.filter_jit
    def step(both: Any, state: Any, batch: Any, wanted: Any) -> Any:
        def loss(both: Any) -> jax.Array:
            encode, model = both
            logits = jax.vmap(lambda x: model(encode(x)))(batch)
            found = optax.softmax_cross_entropy_with_integer_labels(logits, wanted)
            return found.mean()

        gradients = eqx.filter_grad(loss)(both)
        params = eqx.filter(both, eqx.is_inexact_array)
        updates, state = optimiser.update(gradients, state, params)
        return eqx.apply_updates(both, updates), state

    both = (encode, model)
    state = optimiser.init(eqx.filter(both, eqx.is_inexact_array))
    random = np.random.default_rng(int(jr.randint(key, (), 0, 2**30)))
    for _ in range(600):
        chosen = random.integers(0, len(digits), 64)
        batch = jax.tree.map(lambda x, at=chosen: x[at], stack)
        both, state = step(both, state, batch, jnp.asarray(digits[chosen]))
    return both


class _Scaled(eqx.Module):
    """A fixed function of adapters, standardised."""

    function: Any = eqx.field(static=True)
    mean: Any
    deviation: Any

    def __call__(self, adapter: Any) -> jax.Array:
        mean, deviation = jax.lax.stop_gradient((self.mean, self.deviation))
        return (self.function(adapter) - mean) / deviation


def _accuracy(both: Any, stack: Any, digits: np.ndarray) -> float:
    encode, model = both
    run = eqx.filter_jit(jax.vmap(lambda x: model(encode(x))))
    return float((np.argmax(np.asarray(run(stack)), 1) == digits).mean())


def main() -> None:
    """Makes the zoo, trains all encoders, and writes table and picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--adapters", type=int, default=900)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    adapters, digits = _make_zoo(arguments.adapters, jr.key(0))
    random = np.random.default_rng(0)
    order = random.permutation(len(adapters))
    train, test = order[: 2 * len(order) // 3], order[2 * len(order) // 3 :]
    stack = wsl.stack([adapters[i] for i in train])
    plain = wsl.stack([adapters[i] for i in test])
    moved = wsl.stack([_gauge(adapters[i], random) for i in test])
    fixed = {
        "raw factors": _raw,
        "statistics of factors": _statistics,
        "singular values": _values,
        "canonical factors": _canonical,
    }
    rows = []
    for name in (*fixed, "LowRank, probes", "LowRank, components"):
        for seed in range(arguments.seeds):
            encoder_key, model_key, fit_key = jr.split(jr.key(seed), 3)
            if name in fixed:
                features = np.asarray(jax.jit(jax.vmap(fixed[name]))(stack))
                deviation = features.std(0) + 1e-3
                encode = _Scaled(fixed[name], features.mean(0), deviation)
                size = features.shape[1]
            else:
                kind: Any = name.split(", ")[1]
                encode = wsl.encoders.LowRank(
                    _SIZES, 64, kind=kind, num_probes=16, key=encoder_key
                )
                size = 64
            model = _perceptron(size, model_key)
            both = _fit(encode, model, stack, digits[train], fit_key)
            rows.append(
                {
                    "encoder": name,
                    "seed": seed,
                    "as_trained": round(_accuracy(both, plain, digits[test]), 4),
                    "random_gauges": round(_accuracy(both, moved, digits[test]), 4),
                }
            )
            print(rows[-1], flush=True)
    result = {"adapters": len(adapters), "test": len(test), "rows": rows}
    write("adapters", "python -m benchmarks.adapters", result, _draw(rows))
    fill("lora.md", "adapters", _table(rows))


def _mean(rows: list[dict], name: str, what: str) -> tuple[float, float]:
    found = [row[what] for row in rows if row["encoder"] == name]
    return float(np.mean(found)), float(np.std(found))


def _table(rows: list[dict]) -> str:
    lines = ["| | as trained | under random gauges |", "|---|---|---|"]
    for name in dict.fromkeys(row["encoder"] for row in rows):
        cells = [
            "{:.1%} ± {:.1%}".format(*_mean(rows, name, what))
            for what in ("as_trained", "random_gauges")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


@in_style()
def _draw(rows: list[dict]) -> Figure:
    figure, (axes,) = panels(1, 1, 3.2)
    names = list(dict.fromkeys(row["encoder"] for row in rows))
    for i, what in enumerate(("as_trained", "random_gauges")):
        found = [_mean(rows, name, what) for name in names]
        places = [at + 0.4 * i for at in range(len(names))]
        means, deviations = zip(*found, strict=True)
        label = what.replace("_", " ")
        axes.barh(places, means, 0.38, xerr=deviations, label=label)
    axes.axvline(0.1, color="black", linestyle=":", label="chance")
    axes.set_yticks([at + 0.2 for at in range(len(names))], names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="accuracy: which digit was renamed")
    legend_below(figure, [axes])
    return figure


if __name__ == "__main__":
    main()
