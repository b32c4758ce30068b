# SPDX-License-Identifier: Apache-2.0
"""Images cut into tiles, and the results of the images put together again."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from foveate.runtime.merging import merge, moved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foveate.arrays import UInt8Array
    from foveate.bundle.manifest import Manifest
    from foveate.runtime.devices.interop import GpuImage
    from foveate.runtime.tiling import Tile, Tiling

Result = TypeVar("Result")
# Results of so many tiles are merged, so that the masks of all tiles never take memory together.
_AT_ONCE = 8


class Tiled(Generic[Result]):
    """The tiles of images one after the other, and the results of the images from those of tiles.

    Args:
        images: Pixels of the images.
        tiling: How they are cut.
        manifest: Manifest of the bundle, with the options of the pipeline applied.
    """

    def __init__(
        self, images: Iterator[UInt8Array | GpuImage], tiling: Tiling, manifest: Manifest
    ) -> None:
        self._images, self._tiling, self._manifest = images, tiling, manifest
        self._pixels: deque[UInt8Array | GpuImage] = deque()  # of the tiles that were not taken
        self._tiles: deque[list[Tile]] = deque()  # of each image whose result is not complete

    def take(self) -> UInt8Array | GpuImage:
        """Return the pixels of the next tile.

        Raises:
            StopIteration: There are no more images.
        """
        if not self._pixels:
            image = next(self._images)
            self._tiles.append(self._tiling.tiles(*image.shape[:2]))
            self._pixels.extend(tile.of(image) for tile in self._tiles[-1])
        return self._pixels.popleft()

    def merged(self, results: Iterator[Result]) -> Iterator[Result]:
        """Yield the result of each image as soon as those of all of its tiles are there.

        Args:
            results: Results of the tiles, in the order in which they were taken.
        """
        for first in results:
            whole, *others = self._tiles.popleft()
            if not others:
                yield first
                continue
            height, width = whole.height, whole.width
            parts: list[Any] = [moved(cast("Any", first), whole, height=height, width=width)]
            for tile in others:
                if len(parts) == _AT_ONCE:
                    parts = [merge(parts, self._manifest)]
                part = cast("Any", next(results))
                parts.append(moved(part, tile, height=height, width=width))
            yield cast("Result", merge(parts, self._manifest))
