"""What the site takes from elsewhere: address, version and links of the changelog."""

import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


_ROOT = Path(__file__).parent.parent
# Nobody's address: it stands in pyproject.toml until there is one.
_PLACEHOLDER = "example.org"


def on_config(config: Any) -> Any:
    """Fills in what pyproject.toml says of the project."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    address = project["urls"]["Repository"]
    if urlsplit(address).hostname != _PLACEHOLDER:
        config.repo_url = address
        config.repo_name = urlsplit(address).path.strip("/")
    config.copyright = f"{project['name']} {project['version']}, {project['license']}"
    config.watch.append(str(_ROOT / "CHANGELOG.md"))
    return config
