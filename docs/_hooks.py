"""What the site takes from elsewhere: address, version, notebooks."""

import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.structure.files import File


_ROOT = Path(__file__).parent.parent
# Nobody's address: it stands in pyproject.toml until there is one.
_PLACEHOLDER = "example.org"


def on_files(files: Any, config: Any) -> Any:
    """Puts the notebooks beside the pages that they are made from."""
    for path in sorted((_ROOT / "examples").glob("*.ipynb")):
        address = f"examples/{path.name}"
        files.append(File.generated(config, address, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to notebooks, as they are on the site; pages have them as in a checkout."""
    return markdown.replace("](../examples/", "](examples/")


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
