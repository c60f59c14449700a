"""Pictures of tasks in two dimensions, which have no model that could draw them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8


# Drawn so many times as large, so that edges come out smooth.
_FINER = 3
SKY, GROUND, LINE = (214, 230, 244), (196, 202, 206), (120, 128, 134)
BODY, ACCENT, DARK = (52, 84, 138), (214, 122, 56), (44, 48, 52)

Point = tuple[float, float]


class Canvas:
    """A picture in units of a task, with y upwards."""

    def __init__(
        self, height: int, width: int, *, left: float, right: float, bottom: float
    ):
        """Makes an empty picture.

        Args:
            height: Of the picture, in pixels.
            width: Likewise.
            left: What is at its left end.
            right: What is at its right end.
            bottom: What is at its bottom; both axes have one scale.
        """
        # Slow to import.
        from PIL import Image, ImageDraw

        self._size = (width, height)
        self._scale = _FINER * width / (right - left)
        self._left, self._bottom = left, bottom
        self._image = Image.new("RGB", (_FINER * width, _FINER * height), SKY)
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: Sequence[Point], color: Any) -> None:
        """Fills a polygon."""
        self._draw.polygon(list(map(self._at, points)), fill=color)

    def line(self, points: Sequence[Point], width: float, color: Any) -> None:
        """Draws a line through points, with round ends."""
        ends = list(map(self._at, points))
        self._draw.line(ends, fill=color, width=max(round(width * self._scale), 1))
        for point in (points[0], points[-1]):
            self.disc(point, width / 2, color)

    def disc(self, centre: Point, radius: float, color: Any) -> None:
        """Fills a disc."""
        x, y = self._at(centre)
        r = radius * self._scale
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=color)

    def array(self) -> UInt8[np.ndarray, "height width 3"]:
        """The picture."""
        from PIL import Image

        smooth = self._image.resize(self._size, Image.Resampling.LANCZOS)
        return np.asarray(smooth)

    def _at(self, point: Point) -> tuple[float, float]:
        x, y = point
        return (
            (x - self._left) * self._scale,
            self._image.height - (y - self._bottom) * self._scale,
        )
