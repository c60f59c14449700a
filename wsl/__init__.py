"""Learning on the weights of neural networks, as Equinox modules.

A `WeightSpace` says which permutations of a model's weights leave its function alone.
`infer_weight_space` derives it from the model, `verify_symmetry` checks it on real
numbers, `match_weights` undoes it between two networks. `wsl.nn` holds layers that
commute with it, `wsl.encoders` turn a network into a vector and `wsl.generators` a
vector into a network. Not imported here: `wsl.testing`, which checks layers of your
own, and `wsl.zoo`, which makes trained networks to learn from.
"""

from wsl import encoders as encoders, generators as generators, nn as nn
from wsl._action import GroupElement as GroupElement
from wsl._axes import Factor as Factor, Slot as Slot
from wsl._infer import infer_weight_space as infer_weight_space
from wsl._match import (
    harden as harden,
    Match as Match,
    match_weights as match_weights,
    one_hot as one_hot,
    sinkhorn as sinkhorn,
    soft_match as soft_match,
    soft_permute as soft_permute,
    SoftElement as SoftElement,
    SoftMatch as SoftMatch,
)
from wsl._verify import (
    SymmetryReport as SymmetryReport,
    verify_symmetry as verify_symmetry,
)
from wsl._weight_space import WeightSpace as WeightSpace


__version__ = "0.1.0"
