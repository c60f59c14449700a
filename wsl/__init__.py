"""Learning on the weights of neural networks, as Equinox modules.

A `WeightSpace` says which permutations of a model's weights leave its function alone.
`infer_weight_space` derives it from the model, `verify_symmetry` checks it on real
numbers, `match_weights` undoes it between two networks; `wsl.matching` does so by
gradients too. `stack`, `unstack` and `take` make one of several networks. `wsl.nn`
holds layers that commute with the symmetry, `wsl.encoders` turn a network into a vector
and `wsl.generators` a vector into a network. Not imported here: `wsl.testing`, which
checks layers of your own, and `wsl.zoo`, which makes trained networks to learn from.
"""

from wsl import (
    encoders as encoders,
    generators as generators,
    matching as matching,
    nn as nn,
)
from wsl._infer import infer_weight_space as infer_weight_space
from wsl._linear import (
    fold_gains as fold_gains,
    Folded as Folded,
    infer_linear_symmetry as infer_linear_symmetry,
    LinearElement as LinearElement,
    LinearGroup as LinearGroup,
    LinearKind as LinearKind,
    LinearPlace as LinearPlace,
    LinearSymmetry as LinearSymmetry,
)
from wsl._space import (
    Factor as Factor,
    GroupElement as GroupElement,
    Leaf as Leaf,
    Slot as Slot,
    Stacked as Stacked,
    Sum as Sum,
    WeightSpace as WeightSpace,
)
from wsl._space._stacks import (
    stack as stack,
    take as take,
    unstack as unstack,
)
from wsl._verify import (
    SymmetryReport as SymmetryReport,
    verify_symmetry as verify_symmetry,
)
from wsl.matching import Match as Match, match_weights as match_weights


__version__ = "0.1.0"
