# SPDX-License-Identifier: Apache-2.0
"""The tiles that a large image is cut into."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from foveate.errors import OptionError

if TYPE_CHECKING:
    from foveate.arrays import UInt8Array
    from foveate.bundle.manifest import Manifest
    from foveate.runtime.devices.interop import GpuImage
    from foveate.runtime.options import PipelineOptions

# With tiles="auto", images whose longer side is at least this many times max_side are tiled.
_AUTO = 4
# A level of tiles is at most this many times as fine as the next coarser one, or objects that are too
# large for its overlap would be small on the next level.
_FINER = 4


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A part of an image, in pixels; ``right`` and ``bottom`` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, image: UInt8Array | GpuImage) -> UInt8Array | GpuImage:
        """Return this part of an image, which shares its memory."""
        if isinstance(image, np.ndarray):
            return image[self.top : self.bottom, self.left : self.right]
        return image.part(self.top, self.left, self.height, self.width)

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How images are cut into tiles.

    Args:
        side: Side of a tile in pixels; 0 if no image is cut.
        overlap: Pixels that neighboring tiles of this side share at least.
        above: Images whose longer side is at most this many pixels are not cut.
    """

    side: int
    overlap: int
    above: int

    @classmethod
    def of(cls, options: PipelineOptions, manifest: Manifest) -> Tiling:
        """Return the tiling of a pipeline.

        Args:
            options: Options of the pipeline.
            manifest: Manifest of its bundle, with the options applied.

        Raises:
            OptionError: The overlap is too large for the tiles.
        """
        max_side = manifest.pyramid.max_side
        if options.tiles == "off":
            return cls(side=0, overlap=0, above=0)
        auto = options.tiles == "auto"
        side = max_side if isinstance(options.tiles, str) else options.tiles
        overlap = side // 4 if options.tile_overlap is None else options.tile_overlap
        if 2 * overlap > side:
            raise OptionError(
                f"tile_overlap must be at most {side // 2}, half of the side of the tiles, "
                f"found {overlap}"
            )
        # Smaller tiles than max_side show an image no finer than it is without tiles.
        above = _AUTO * max_side - 1 if auto else max(side, max_side)
        return cls(side=side, overlap=overlap, above=above)

    def check_off(self) -> None:
        """Check that no image is cut.

        Raises:
            OptionError: Some may be.
        """
        if self.side:
            raise OptionError(
                f"results of tiles are merged on the CPU, found tiles of {self.side} pixels",
                remedy="load the pipeline with tiles='off', or omit on_device",
            )

    def tiles(self, height: int, width: int) -> list[Tile]:
        """Return the whole image, and the tiles it is cut into, the coarsest first.

        All tiles of a side have the same size. One level of tiles is four times as fine as the next
        one.
        """
        whole = Tile(left=0, top=0, right=width, bottom=height)
        longer, side = max(height, width), self.side
        if not side or longer <= self.above:
            return [whole]
        sides = [side]
        while longer > _FINER * sides[-1]:
            sides.append(_FINER * sides[-1])
        # All levels overlap by the same share of their side.
        return [
            whole,
            *(
                tile
                for one in reversed(sides)
                for tile in _grid(height, width, one, self.overlap * one // side)
            ),
        ]


def _grid(height: int, width: int, side: int, overlap: int) -> list[Tile]:
    """Return the tiles of one side, row by row."""
    rows, columns = min(side, height), min(side, width)
    return [
        Tile(left=left, top=top, right=left + columns, bottom=top + rows)
        for top in _starts(height, side, overlap)
        for left in _starts(width, side, overlap)
    ]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    """Return the starts of tiles along an axis, evenly spaced from one end to the other."""
    if length <= side:
        return [0]
    gaps = ceil((length - side) / (side - overlap))
    return [index * (length - side) // gaps for index in range(gaps)] + [length - side]
