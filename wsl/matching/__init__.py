"""Alignment of networks up to the permutations of their space, and what comes after.

`match_weights` finds permutations by linear assignment, on the host;
`match_activations` by what units answer on data, `match_many` for several networks.
`average`, `interpolate`, `barrier`, `reset_statistics` and `repair` make one of them.
`soft_match` goes down the gradient of the distance on doubly stochastic matrices, which
can be compiled; `sinkhorn`, `soft_permute` and `harden` are its parts. Low-rank factors
have a continuous group, GL(r): `canonical_factors`, `match_factors`. What a
`LinearSymmetry` finds in a whole network, `match_linear` aligns, `canonical_weights`
settles and `invariants` does not see; `match_jointly` does so with permutations too.
"""

from wsl.matching._activations import match_activations as match_activations
from wsl.matching._descent import Match as Match, match_weights as match_weights
from wsl.matching._factors import (
    canonical_factors as canonical_factors,
    FactorMatch as FactorMatch,
    Factors as Factors,
    match_factors as match_factors,
    singular_values as singular_values,
)
from wsl.matching._jointly import (
    JointMatch as JointMatch,
    match_jointly as match_jointly,
)
from wsl.matching._linear import (
    canonical_weights as canonical_weights,
    invariants as invariants,
    LinearMatch as LinearMatch,
    match_linear as match_linear,
)
from wsl.matching._many import (
    average as average,
    ManyMatch as ManyMatch,
    match_many as match_many,
)
from wsl.matching._merge import (
    Barrier as Barrier,
    barrier as barrier,
    interpolate as interpolate,
    reset_statistics as reset_statistics,
)
from wsl.matching._repair import repair as repair
from wsl.matching._sinkhorn import (
    harden as harden,
    one_hot as one_hot,
    sinkhorn as sinkhorn,
    soft_match as soft_match,
    soft_permute as soft_permute,
    SoftElement as SoftElement,
    SoftMatch as SoftMatch,
)
