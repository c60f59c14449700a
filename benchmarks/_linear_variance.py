"""Variance of the outputs of eight layers with a ReLU between them, as first drawn.

Prints a line of JSON: for each space the median over eight draws.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
from _weight_spaces import perceptron

from wsl import WeightSpace
from wsl.nn import EquivariantLinear


def main() -> None:
    table = []
    for depth in (2, 4, 8):
        for free in (True, False):
            ends = (16, 16) if free else (2, 1)
            sizes = [ends[0], *[16] * (depth - 1), ends[1]]
            for channels in (8, 32):
                found = _variances(perceptron(sizes, free=free), channels)
                table.append(
                    {
                        "space": f"{'NP' if free else 'HNP'}, L = {depth}",
                        "channels": channels,
                        "variances": [float(f"{v:.3g}") for v in found],
                    }
                )
    print(json.dumps(table))


def _variances(space: WeightSpace, channels: int) -> np.ndarray:
    @jax.jit
    @jax.vmap
    def run(key):
        keys = jax.random.split(key, 9)
        features = jax.tree.unflatten(
            space.treedef,
            [
                jax.random.normal(
                    jax.random.fold_in(keys[8], i), (*leaf.shape, channels)
                )
                for i, leaf in enumerate(space.leaves)
            ],
        )

        def step(features, key):
            layer = EquivariantLinear(space, channels, channels, key=key)
            features = layer(features)
            flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(features)])
            return jax.tree.map(jax.nn.relu, features), jnp.mean(flat**2)

        return jax.lax.scan(step, features, keys[:8])[1]

    return np.median(run(jax.random.split(jax.random.key(0), 8)), axis=0)


if __name__ == "__main__":
    main()
