from pathlib import Path
from typing import Any

import jax
import pytest

from applications.epvf.train import COMMAND_LINE
from applications.training import keep_compiled, parse_settings


# Its type knows no settings.
_CONFIG: Any = jax.config


@pytest.fixture(autouse=True)
def _as_before():
    before = _CONFIG.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_kept_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("WSL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_compiled()
    kept = _CONFIG.jax_compilation_cache_dir
    assert kept is not None and kept.startswith(str(tmp_path / "wsl" / "compiled"))
    monkeypatch.setenv("WSL_CACHE", str(tmp_path / "other"))
    keep_compiled()
    kept = _CONFIG.jax_compilation_cache_dir
    assert kept is not None and kept.startswith(str(tmp_path / "other"))


def test_what_jax_was_told_stays(tmp_path, monkeypatch):
    jax.config.update("jax_compilation_cache_dir", "told")
    for told in ("told", ""):
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", told)
        keep_compiled()
        assert _CONFIG.jax_compilation_cache_dir == "told"


def test_a_command_line_that_is_parsed_leaves_the_cache_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("WSL_CACHE", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", "told")
    parse_settings(COMMAND_LINE, [])
    assert _CONFIG.jax_compilation_cache_dir == "told"
    keep_compiled()
    assert _CONFIG.jax_compilation_cache_dir != "told"


def test_without_a_home(monkeypatch):
    for name in ("JAX_COMPILATION_CACHE_DIR", "WSL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    jax.config.update("jax_compilation_cache_dir", "told")
    keep_compiled()
    assert _CONFIG.jax_compilation_cache_dir == "told"
