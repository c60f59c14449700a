"""Value functions over policies, V(θ) and V(s, θ), and their fit to an archive."""

from applications.value._fit import (
    descend as descend,
    fit as fit,
    labels as labels,
    predict as predict,
    TargetKind as TargetKind,
    update_of as update_of,
)
from applications.value._representation import (
    EncoderOptions as EncoderOptions,
    make_encoder as make_encoder,
    Representation as Representation,
)
from applications.value._targets import (
    RankTargets as RankTargets,
    StandardTargets as StandardTargets,
)
from applications.value._value_function import (
    correlation as correlation,
    value_function as value_function,
)
