"""Training that every row of the table has in common."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from benchmarks.zoo._settings import Settings


Loss = Callable[[PyTree, PyTree, PyTree, PRNGKeyArray], Float[Array, ""]]


def fit(
    model: PyTree,
    loss: Loss,
    networks: PyTree,
    labels: PyTree,
    settings: Settings,
    *,
    trained: PyTree | None = None,
    key: PRNGKeyArray,
) -> tuple[PyTree, Float[Array, " steps"]]:
    """Trains a model on networks.

    Args:
        model: The model.
        loss: Of the model, one network, its labels and a key.
        networks: The networks, stacked leaf by leaf.
        labels: Arrays with one entry for each network.
        settings: How many steps, of which size, on how many networks.
        trained: Which arrays of the model learn, as `equinox.partition` takes it; by
            default all.
        key: Source of randomness.

    Returns:
        The trained model and the losses.
    """
    parameters, rest = eqx.partition(
        model, eqx.is_inexact_array if trained is None else trained
    )
    arrays, static = eqx.partition(networks, eqx.is_array)
    count = len(jax.tree.leaves(arrays)[0])
    optimiser = _optimiser(settings)

    def mean_loss(
        parameters: PyTree, arrays: PyTree, labels: PyTree, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        model = eqx.combine(parameters, rest)

        def of_one(arrays, labels, key):
            return loss(model, eqx.combine(arrays, static), labels, key)

        keys = jr.split(key, settings.batch_size)
        return jnp.mean(jax.vmap(of_one)(arrays, labels, keys))

    def step(carry, key):
        parameters, state = carry
        batch_key, loss_key = jr.split(key)
        batch = jr.randint(batch_key, (settings.batch_size,), 0, count)
        value, gradient = jax.value_and_grad(mean_loss)(
            parameters, *jax.tree.map(lambda x: x[batch], (arrays, labels)), loss_key
        )
        # Optax multiplies counts and rates, which strict dtype promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            change, state = optimiser.update(gradient, state, parameters)
        return (eqx.apply_updates(parameters, change), state), value

    @jax.jit
    def run(parameters: PyTree, key: PRNGKeyArray):
        carry = parameters, optimiser.init(parameters)
        keys = jr.split(key, settings.steps)
        (parameters, _), values = jax.lax.scan(step, carry, keys)
        return parameters, values

    parameters, losses = run(parameters, key)
    return eqx.combine(parameters, rest), losses


def _optimiser(settings: Settings) -> optax.GradientTransformation:
    rate = optax.warmup_cosine_decay_schedule(
        0.0,
        settings.rate_for(None),
        max(settings.steps // 10, 1),
        max(settings.steps, 2),
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(rate, weight_decay=settings.weight_decay),
    )


def map_networks(
    function: Callable[[PyTree], PyTree], networks: PyTree, batch_size: int = 256
) -> PyTree:
    """Applies a function to every network of a stack, a batch at a time.

    Args:
        function: From one network to arrays.
        networks: The networks, stacked leaf by leaf.
        batch_size: How many at once.

    Returns:
        What the function returns, stacked.
    """
    arrays, static = eqx.partition(networks, eqx.is_array)

    @jax.jit
    def run(arrays):
        return jax.lax.map(
            lambda one: function(eqx.combine(one, static)),
            arrays,
            batch_size=batch_size,
        )

    return run(arrays)
