"""Modes of JAX in which nothing is trained."""

from typing import Any

import jax

from applications.settings import UserError


def check_jax_modes() -> None:
    """Refuses the modes of JAX that training cannot have.

    Raises:
        UserError: If JAX ends at a number that is not finite, or computes in double
            precision.
    """
    flags: Any = jax.config
    if flags.jax_debug_nans or flags.jax_debug_infs:
        raise UserError(
            "JAX_DEBUG_NANS and JAX_DEBUG_INFS end sound runs: the mean of no episodes "
            "is NaN here. Unset them; a run ends by itself where its state is not "
            "finite."
        )
    if flags.jax_enable_x64:
        raise UserError(
            "Training is in single precision: unset JAX_ENABLE_X64. Policy files of "
            "double precision are read in any mode."
        )
