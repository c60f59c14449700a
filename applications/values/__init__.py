"""Value functions over policies, V(θ) and V(s, θ), and their fit to an archive."""

from applications.values._fit import (
    descend as descend,
    fit as fit,
    labels as labels,
    predict as predict,
    TargetKind as TargetKind,
    update_of as update_of,
)
from applications.values._representation import (
    check_representation as check_representation,
    EncoderOptions as EncoderOptions,
    make_encoder as make_encoder,
    Representation as Representation,
    REPRESENTATIONS as REPRESENTATIONS,
)
from applications.values._schedules import Schedule as Schedule, schedule as schedule
from applications.values._targets import (
    RankTargets as RankTargets,
    StandardTargets as StandardTargets,
)
from applications.values._value_function import (
    correlation as correlation,
    value_function as value_function,
)
