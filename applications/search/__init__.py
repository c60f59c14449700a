"""The base of all that tries populations of policies and learns from how they did."""

from applications.search._base import (
    AbstractSearch as AbstractSearch,
    Metrics as Metrics,
    SearchState as SearchState,
)
from applications.search._low_rank import (
    draw_perturbations as draw_perturbations,
    LowRankCandidates as LowRankCandidates,
    ToPolicy as ToPolicy,
)
from applications.search._noise import (
    draw_noise as draw_noise,
    noise_units as noise_units,
    NoiseLaw as NoiseLaw,
    NoiseShape as NoiseShape,
)
from applications.search._search import (
    AbstractPolicySearch as AbstractPolicySearch,
    Outcome as Outcome,
    Proposal as Proposal,
    Trial as Trial,
)
from applications.search._steps import (
    AbstractStepSearch as AbstractStepSearch,
    Actors as Actors,
)
