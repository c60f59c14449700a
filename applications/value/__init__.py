"""Value functions over policies, V(θ) and V(s, θ), and what they are fitted to."""

from applications.value._targets import (
    RankTargets as RankTargets,
    StandardTargets as StandardTargets,
)
from applications.value._value_function import (
    correlation as correlation,
    ValueFunction as ValueFunction,
)
