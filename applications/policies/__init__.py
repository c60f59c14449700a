"""Policies: what they are, perceptrons, as rows of a matrix, and as files."""

from applications.policies._export import (
    export_arrays as export_arrays,
    export_onnx as export_onnx,
    run_arrays as run_arrays,
)
from applications.policies._file import (
    read_policy as read_policy,
    write_policy as write_policy,
)
from applications.policies._flat_view import FlatView as FlatView
from applications.policies._low_rank import (
    LowRankFactors as LowRankFactors,
    LowRankLinear as LowRankLinear,
    Perturbation as Perturbation,
    zero_factors as zero_factors,
)
from applications.policies._make import (
    check_policy as check_policy,
    make_policy as make_policy,
)
from applications.policies._mlp import Activation as Activation, MLPPolicy as MLPPolicy
from applications.policies._noisy import NoisyPolicy as NoisyPolicy
from applications.policies._policy import (
    AbstractPolicy as AbstractPolicy,
    act as act,
    select_action as select_action,
    standardise as standardise,
    standardised as standardised,
    unstandardised as unstandardised,
)
from applications.policies._statistics import RunningStatistics as RunningStatistics
from applications.policies._stochastic import (
    Drawn as Drawn,
    StochasticPolicy as StochasticPolicy,
)
from applications.policies._variant import (
    AbstractNumbered as AbstractNumbered,
    InVariant as InVariant,
)
