"""Steps up a value that go as far as behaviour may change, and no further."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import jax.scipy.sparse.linalg as sparse
import optax
from jaxtyping import Array, Float

from applications.values._fit import update_of


Direction: TypeAlias = Literal["raw", "adam", "natural"]
Weights: TypeAlias = Float[Array, " weights"]

# Parts of the radius after each of which the gradient is taken anew.
_PARTS = 10
_BISECTIONS = 16
# Adam's steps, in units of the perturbations, and how many there may be.
_ADAM_RATE, _ADAM_STEPS = 0.1, 20
# Of the natural direction: solver steps, and what is added to the metric, in units of
# its mean eigenvalue.
_SOLVER_STEPS, _DAMPING = 10, 0.1


def trust_step(
    objective: Callable[[Weights], Float[Array, ""]],
    behaviour: Callable[[Weights], Float[Array, " answers"]],
    weights: Weights,
    mask: Weights,
    *,
    direction: Direction,
    radius: Float[Array, ""],
    limit: Float[Array, ""],
    noise_scale: Float[Array, ""],
    is_known: Callable[[Weights], Array] = lambda weights: jnp.ones((), bool),
) -> Weights:
    """Ascends until behaviour has changed by a radius.

    The distance is |f(θ') - f(θ)|, where f is what a policy answers in given states. A
    value function that knows policies up to some distance is trusted no further.

    Args:
        objective: What to ascend.
        behaviour: f, from weights to answers.
        weights: θ.
        mask: 1 for each weight that may change, 0 for others.
        direction: Along the gradient, which is taken anew on the way; by steps of Adam
            that starts anew; or along the natural gradient, for which the metric of
            weights is that of the answers, JᵀJ with J = df/dθ (Amari, 1998).
        radius: The largest distance.
        limit: The largest root mean square change of a weight.
        noise_scale: Standard deviation of the perturbations of weights.
        is_known: Whether the value is to be trusted at some weights.

    Returns:
        θ'. It is θ where there is no slope. But for the natural direction it ends where
        the objective falls, before the radius.
    """
    before, count = behaviour(weights), jnp.maximum(jnp.sum(mask), 1.0)

    def inside(there):
        moved = jnp.linalg.norm(behaviour(there) - before)
        far = jnp.sqrt(jnp.sum((there - weights) ** 2) / count)
        # What rounding adds is no step too far.
        near = (moved <= 1.001 * radius) & (far <= 1.001 * limit)
        return near & is_known(there)

    def slope(there):
        gradient = jax.grad(objective)(there) * mask
        finite = jnp.all(jnp.isfinite(gradient))
        return jnp.where(finite, gradient, jnp.zeros_like(gradient))

    if direction == "adam":
        return _by_adam(slope, objective, inside, weights, _ADAM_RATE * noise_scale)
    if direction == "raw":

        def part_of(there):
            along = slope(there)
            _, change = jax.jvp(behaviour, (there,), (along,))
            size = jnp.sqrt(jnp.sum(along**2) / count)
            # As far as the first of both bounds is reached, and a part of that.
            rate = jnp.minimum(
                radius / jnp.maximum(jnp.linalg.norm(change), 1e-30),
                limit / jnp.maximum(size, 1e-30),
            )
            return jnp.where(size > 0, rate * along, 0.0) / _PARTS

        return _in_parts(part_of, objective, inside, weights)
    along = _natural(behaviour, weights, slope(weights), radius, noise_scale) * mask
    size = jnp.sqrt(jnp.sum(along**2) / count)
    moves = size > 0
    unit = along / jnp.where(moves, size, 1.0)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        yes = inside(weights + middle * unit)
        return jnp.where(yes, middle, low), jnp.where(yes, high, middle)

    bounds = (jnp.zeros_like(limit), limit)
    length, _ = jax.lax.fori_loop(0, _BISECTIONS, halve, bounds)
    return jnp.where(moves, weights + length * unit, weights)


def _in_parts(
    part_of: Callable[[Weights], Weights],
    objective: Callable[[Weights], Float[Array, ""]],
    inside: Callable[[Weights], Array],
    weights: Weights,
) -> Weights:
    """Small steps, as long as they stay inside and the objective rises."""

    def step(carry, _):
        there, height, goes_on = carry
        following = there + part_of(there)
        higher = objective(following)
        goes_on = goes_on & inside(following) & (higher >= height)
        there = jnp.where(goes_on, following, there)
        return (there, jnp.where(goes_on, higher, height), goes_on), None

    start = (weights, objective(weights), jnp.ones((), bool))
    (there, _, _), _ = jax.lax.scan(step, start, length=_PARTS)
    return there


def _by_adam(
    slope: Callable[[Weights], Weights],
    objective: Callable[[Weights], Float[Array, ""]],
    inside: Callable[[Weights], Array],
    weights: Weights,
    rate: Float[Array, ""],
) -> Weights:
    """Steps of Adam up a slope, as long as they stay inside."""
    adam = optax.scale_by_adam()

    def step(carry, _):
        there, state, goes_on = carry
        change, state = update_of(adam, slope(there), state)
        following = there + rate * change
        rises = objective(following) >= objective(there)
        goes_on = goes_on & inside(following) & rises
        return (jnp.where(goes_on, following, there), state, goes_on), None

    start = (weights, adam.init(weights), jnp.ones((), bool))
    (there, _, _), _ = jax.lax.scan(step, start, length=_ADAM_STEPS)
    return there


def _natural(
    behaviour: Callable[[Weights], Float[Array, " answers"]],
    weights: Weights,
    gradient: Weights,
    radius: Float[Array, ""],
    noise_scale: Float[Array, ""],
) -> Weights:
    """(JᵀJ + damping)⁻¹ times a gradient, by conjugate gradients."""
    _, push = jax.linearize(behaviour, weights)
    pull = jax.linear_transpose(push, weights)
    # Perturbations of scale σ move answers by σ² tr(JᵀJ) in mean square.
    mean = (radius / noise_scale) ** 2 / weights.size
    damping = _DAMPING * mean + 1e-12

    def metric(vector):
        return pull(push(vector))[0] + damping * vector

    solved, _ = sparse.cg(metric, gradient, maxiter=_SOLVER_STEPS)
    return solved
