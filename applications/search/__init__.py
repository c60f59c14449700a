"""The base of all that tries populations of policies and learns from how they did."""

from applications.search._average import averaged as averaged
from applications.search._base import (
    AbstractSearch as AbstractSearch,
)
from applications.search._low_rank import (
    draw_perturbations as draw_perturbations,
    LowRankCandidates as LowRankCandidates,
    ToPolicy as ToPolicy,
)
from applications.search._noise import (
    adapt_noise_factor as adapt_noise_factor,
    draw_noise as draw_noise,
    noise_deviation as noise_deviation,
    noise_units as noise_units,
    NoiseLaw as NoiseLaw,
    NoiseShape as NoiseShape,
)
from applications.search._search import (
    AbstractPolicySearch as AbstractPolicySearch,
)
from applications.search._state import (
    Metrics as Metrics,
    Outcome as Outcome,
    Proposal as Proposal,
    SearchState as SearchState,
    Trial as Trial,
)
from applications.search._steps import (
    AbstractStepSearch as AbstractStepSearch,
    Actors as Actors,
)
