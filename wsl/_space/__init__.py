"""The space of a model's weights: its leaves, its groups and how they act.

`_axes` says what the axes of a leaf are, `_spec` reads a written spec, `_leaf` is one
leaf of a space, or a piece of one, with its `_layout`: what may move first. `_action`
moves pieces and composes group elements, in NumPy and in JAX alike, and `_weight_space`
puts it together; `_table` prints it. `_stacks` makes one of several networks.
"""

from wsl._space._action import (
    ancestors as ancestors,
    compose as compose,
    enclosing as enclosing,
    GroupElement as GroupElement,
    identity as identity,
    permute_factors as permute_factors,
    permute_leaf as permute_leaf,
    permute_leaves as permute_leaves,
    sample as sample,
    take as take,
)
from wsl._space._axes import (
    Factor as Factor,
    find_slots as find_slots,
    Slot as Slot,
)
from wsl._space._layout import fold as fold, Layout as Layout, unfold as unfold
from wsl._space._leaf import (
    is_weight as is_weight,
    Leaf as Leaf,
    make_piece as make_piece,
    read as read,
)
from wsl._space._random import numpy_generator as numpy_generator
from wsl._space._sizes import (
    check_positive as check_positive,
    check_space as check_space,
)
from wsl._space._spec import (
    AxisSpec as AxisSpec,
    Stacked as Stacked,
    Sum as Sum,
)
from wsl._space._table import columns as columns
from wsl._space._weight_space import WeightSpace as WeightSpace
