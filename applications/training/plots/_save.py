import io
from pathlib import Path
from typing import Any

from applications.settings import UserError
from applications.training.storage import write_atomically


FORMATS = (".png", ".pdf", ".svg")


def check_picture(path: Path, flag: str) -> None:
    """Checks that a picture can be written under a name.

    Args:
        path: The file.
        flag: The flag that names it.

    Raises:
        UserError: If its suffix is of no format.
    """
    if path.suffix not in FORMATS:
        raise UserError(f"{flag} {path} must end in {', '.join(FORMATS)}.")


def save_figure(figure: Any, path: Path) -> None:
    """Writes a figure of matplotlib, whole or not at all.

    Args:
        figure: The figure.
        path: The file; its suffix says the format.

    Raises:
        OSError: If it cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:], dpi=150)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))
