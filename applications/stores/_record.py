from typing import Any, final

import equinox as eqx
from jaxtyping import Array, Bool, Float


@final
class Record(eqx.Module):
    """What the archive keeps of a policy that was tried.

    Attributes:
        weights: Its weights, a vector; or `LowRankWeights`, or what else tells of them.
        returns: Undiscounted return of each of its episodes.
        starts: First observation of each of its episodes.
        valid: Which of its episodes stayed finite to their end. Nothing is learned
            from the others, whose returns stop short.
    """

    weights: Any
    returns: Float[Array, "*batch episodes"]
    starts: Float[Array, "*batch episodes observation"]
    valid: Bool[Array, "*batch episodes"]
