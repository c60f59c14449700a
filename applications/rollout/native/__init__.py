"""The engine of tasks that MuJoCo's own engine steps, in C on threads.

Episodes are cut into blocks, and a thread runs a block. There it alternates: MuJoCo
advances the block's simulations by one control step (`_blocks.py`), and compiled
functions judge that step and let the policies act on what they see now (`_rows.py`).
"""

from applications.rollout.native._native import (
    NativeEngine as NativeEngine,
    NativeRollout as NativeRollout,
)
