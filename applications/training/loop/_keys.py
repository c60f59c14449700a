import enum
from typing import final

import jax.random as jr
from jaxtyping import PRNGKeyArray


@final
class Purpose(enum.IntEnum):
    """What a seed's randomness is for; each purpose has a stream of its own."""

    TRAIN = 0
    EVALUATE = 1
    REPLAY = 2
    RENDER = 3


def key_for(seed: int, purpose: Purpose) -> PRNGKeyArray:
    """The key from which all randomness of one purpose comes.

    Args:
        seed: The user's seed.
        purpose: What it is for.

    Returns:
        A key that no other purpose or seed has.
    """
    return jr.fold_in(jr.key(seed), int(purpose))
