"""Finds which axes of a function's weights may be permuted.

The function is traced, and its jaxpr interpreted on *parts* instead of numbers: what
the indices of every axis of every intermediate array are. `_store` holds the index
sets, `_parts` aligns axes, `_rules_*` say what each primitive does to them,
`_control` follows nested jaxprs, `_nesting` finds permutations inside blocks; that is
one inference, `_analyse`. `_sums` finds axes that are sums of index sets: it has the
function written anew for pieces of its weights (`_blocks`, `_block_*`, on the arrays of
`_grid`) and analyses that. `_infer` puts it together, `_naming` names what was found;
`_record` keeps the arrays in which units appear.
"""

from wsl._infer._infer import infer_weight_space as infer_weight_space
from wsl._infer._record import Activations as Activations, record as record
