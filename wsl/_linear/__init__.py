"""Continuous symmetries: linear maps of whole index sets, beyond permutations.

`_symmetry` says which there are and how they act, `_places` how one acts on one piece
of a leaf, `_infer` finds them on numbers, and `_fold` makes gains 1 that hide them.
"""

from wsl._linear._fold import fold_gains as fold_gains, Folded as Folded
from wsl._linear._infer import (
    infer_linear_symmetry as infer_linear_symmetry,
    pieces_at as pieces_at,
)
from wsl._linear._places import LinearPlace as LinearPlace, stacked as stacked
from wsl._linear._symmetry import (
    LinearElement as LinearElement,
    LinearGroup as LinearGroup,
    LinearKind as LinearKind,
    LinearSymmetry as LinearSymmetry,
    turns as turns,
)
