"""What was tried, what it returned, and what was seen on the way."""

from applications.stores._archive import Archive as Archive
from applications.stores._low_rank import (
    Centres as Centres,
    LowRankWeights as LowRankWeights,
)
from applications.stores._record import Record as Record
from applications.stores._replay import Replay as Replay, Segment as Segment
from applications.stores._state_pool import StatePool as StatePool
