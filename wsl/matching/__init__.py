"""Alignment of two sets of weights up to the permutations of their space.

`match_weights` finds permutations by linear assignment, on the host. `soft_match` goes
down the gradient of the distance on doubly stochastic matrices, which can be compiled;
`sinkhorn`, `soft_permute` and `harden` are its parts.
"""

from wsl.matching._descent import Match as Match, match_weights as match_weights
from wsl.matching._sinkhorn import (
    harden as harden,
    one_hot as one_hot,
    sinkhorn as sinkhorn,
    soft_match as soft_match,
    soft_permute as soft_permute,
    SoftElement as SoftElement,
    SoftMatch as SoftMatch,
)
