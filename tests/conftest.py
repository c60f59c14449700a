"""What every test runs under.

Nothing of `wsl` or `applications` may be imported here at module level: the hook that
checks shapes and types (`--jaxtyping-packages`) only reaches later imports.
"""

import gc
import os
from collections.abc import Callable, Iterator

import hypothesis
import jax
import pytest
from jaxtyping import PRNGKeyArray


# Most of the time goes into compiling functions that run once. XLA reads this when the
# first of them comes, in processes that tests start too.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# For tests that share a population out, without another process to do so.
jax.config.update("jax_num_cpu_devices", 4)

# No silent casts or broadcasts between ranks.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    # Tests compile many small functions; by default JAX would keep only the slow ones.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

# The first call of a jitted function compiles, so the time of an example says nothing.
hypothesis.settings.register_profile("default", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True, scope="module")
def _free_what_was_compiled() -> Iterator[None]:
    """Lets go of a module's compiled functions.

    Each holds memory mappings, of which a process may have 65,530 on Linux; XLA crashes
    when there are no more.
    """
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def getkey() -> Callable[[], PRNGKeyArray]:
    """A function that gives another key at each call; every test has the same ones."""
    root = jax.random.key(5678)
    count = 0

    def next_key() -> PRNGKeyArray:
        nonlocal count
        count += 1
        return jax.random.fold_in(root, count)

    return next_key
