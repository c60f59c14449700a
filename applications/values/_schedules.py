from typing import Literal, TypeAlias

import jax
import optax


Schedule: TypeAlias = Literal["constant", "linear", "cosine"]
NoiseSchedule: TypeAlias = Literal["constant", "linear", "cosine", "geometric"]


def schedule(
    start: float, kind: NoiseSchedule, steps: int, *, end: float = 0.0
) -> optax.Schedule:
    """A rate over a run.

    Args:
        start: Its first value.
        kind: Whether it stays or how it goes to its last value; geometric, by the same
            factor at each step.
        steps: When it gets there.
        end: Its last value, unless it stays; positive if it is to go geometrically.

    Returns:
        From the number of steps so far to the rate.
    """
    # Optax counts no further.
    steps = min(steps, 2**31 - 1)
    match kind:
        case "constant":
            rate_at = optax.constant_schedule(start)
        case "linear":
            rate_at = optax.linear_schedule(start, end, steps)
        case "cosine":
            rate_at = optax.cosine_decay_schedule(start, steps, alpha=end / start)
        case "geometric":
            rate_at = optax.exponential_decay(start, steps, end / start, end_value=end)

    def rate(count):
        # Optax divides counts by floats.
        with jax.numpy_dtype_promotion("standard"):
            return rate_at(count)

    return rate
