"""Alignment of two sets of weights, exact or by gradient."""

from wsl._match._descent import Match as Match, match_weights as match_weights
from wsl._match._sinkhorn import (
    harden as harden,
    one_hot as one_hot,
    sinkhorn as sinkhorn,
    soft_match as soft_match,
    soft_permute as soft_permute,
    SoftElement as SoftElement,
    SoftMatch as SoftMatch,
)
