"""Finds which axes of a function's weights may be permuted.

The function is traced, and its jaxpr interpreted on *parts* instead of numbers: what
the indices of every axis of every intermediate array are. `_store` holds the index
sets, `_parts` aligns axes, `_rules_*` say what each primitive does to them,
`_control` follows nested jaxprs, `_nesting` finds permutations inside blocks, and
`_infer` puts it together.
"""

from wsl._infer._infer import infer_weight_space as infer_weight_space
