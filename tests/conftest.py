"""What every test runs under.

Nothing of `wsl` or `applications` may be imported here at module level: the hook that
checks shapes and types (`--jaxtyping-packages`) only reaches later imports.
"""

import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import jax
import pytest
from jaxtyping import PRNGKeyArray


# Most of the time goes into compiling functions that run once. XLA reads this when the
# first of them comes, in processes that tests start too.
_flags = ["--xla_backend_optimization_level=0"]
# Half of what is left, where XLA still has another way; the newest knows no such flag.
if jax.__version_info__ < (0, 11, 1):
    _flags.append("--xla_cpu_use_fusion_emitters=false")
    _flags.append("--xla_cpu_parallel_codegen_split_count=1")
os.environ.setdefault("XLA_FLAGS", " ".join(_flags))

# What one process has compiled, the others of the session need not: pytest-xdist's
# workers, and what tests start, inherit the directory and the rest.
_compiled: tempfile.TemporaryDirectory | None = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="wsl-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
# By default JAX would keep only what is slow to compile.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# JAX has read its environment by now.
jax.config.update(
    "jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"] or None
)
jax.config.update(
    "jax_persistent_cache_min_compile_time_secs",
    float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]),
)
jax.config.update(
    "jax_persistent_cache_min_entry_size_bytes",
    int(os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"]),
)

# For tests that share a population out, without another process to do so.
jax.config.update("jax_num_cpu_devices", 4)

# No silent casts or broadcasts between ranks.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# How many examples each draws is in tests/helpers.py. The first call of a jitted
# function compiles, so the time of an example says nothing.
for _profile in ("fast", "ci"):
    hypothesis.settings.register_profile(_profile, deadline=None, derandomize=True)
hypothesis.settings.register_profile("nightly", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("WSL_TEST_PROFILE", "fast"))


# Of the 65,530 that Linux allows a process, and bytes that a worker may hold.
_MAPPINGS, _RESIDENT = 30_000, 3 << 30


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the cases that `nightly.txt` lists; others are marked where they stand."""
    listed = set((Path(__file__).parent / "nightly.txt").read_text().splitlines())
    for item in items:
        if item.nodeid in listed:
            item.add_marker(pytest.mark.nightly)


@pytest.fixture(autouse=True, scope="module")
def _free_what_was_compiled() -> Iterator[None]:
    """Lets go of compiled functions before they hold too much.

    XLA crashes when a process may have no more memory mappings; several workers share
    the memory of a machine.
    """
    yield
    process = Path("/proc/self")
    if not process.exists():
        return
    maps = (process / "maps").read_bytes().count(b"\n")
    pages = int((process / "statm").read_text().split()[1])
    if maps > _MAPPINGS or pages * os.sysconf("SC_PAGE_SIZE") > _RESIDENT:
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
