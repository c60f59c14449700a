"""The archive: what was tried and what it returned."""

from applications.stores._archive import Archive as Archive
from applications.stores._low_rank import (
    Centres as Centres,
    LowRankWeights as LowRankWeights,
)
from applications.stores._record import Record as Record
