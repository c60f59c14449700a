from typing import Literal, TypeAlias

import jax
import optax


Schedule: TypeAlias = Literal["constant", "linear", "cosine"]


def schedule(start: float, kind: Schedule, steps: int) -> optax.Schedule:
    """A rate over a run.

    Args:
        start: Its first value.
        kind: Whether it stays or how it goes to zero.
        steps: When it gets there.

    Returns:
        From the number of steps so far to the rate.
    """
    match kind:
        case "constant":
            rate_at = optax.constant_schedule(start)
        case "linear":
            rate_at = optax.linear_schedule(start, 0.0, steps)
        case "cosine":
            rate_at = optax.cosine_decay_schedule(start, steps)

    def rate(count):
        # Optax divides counts by floats.
        with jax.numpy_dtype_promotion("standard"):
            return rate_at(count)

    return rate
