import os
import platform
from pathlib import Path

import jax


def keep_compiled() -> None:
    """Keeps what takes over a second to compile, for the next start.

    In `JAX_COMPILATION_CACHE_DIR` where that is set (empty: nothing is kept), else in
    the user's cache directory. Machines that share that one have a folder each: code
    is compiled for one processor. It is for programs, not for libraries: the setting
    is JAX's, for the whole process.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    given = os.environ.get("WSL_CACHE")
    try:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # A user without a name and a home.
        if not given:
            return
        caches = given
    root = Path(given) if given else Path(caches) / "wsl"
    jax.config.update(
        "jax_compilation_cache_dir", str(root / "compiled" / platform.node())
    )
