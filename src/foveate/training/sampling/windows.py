# SPDX-License-Identifier: Apache-2.0
"""Square windows of an image, and the patches and labels cut out of them.

Coordinates are continuous: pixel i covers [i, i + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor
from typing import cast

import cv2
import numpy as np

from foveate.arrays import Float64Array, UInt8Array
from foveate.datasets.segmentations import decode_rle, rasterize

# Value outside the image: the published .5, nearly 0 when normalized.
FILL = 127


@dataclass(frozen=True, kw_only=True)
class Window:
    """A square of an image, which may extend beyond it.

    Args:
        left: Left edge, x in pixels of the image.
        top: Upper edge, y in pixels of the image.
        side: Side in pixels of the image.
    """

    left: float
    top: float
    side: float

    @classmethod
    def around(cls, x: float, y: float, side: float) -> Window:
        """Return the window around a center."""
        return cls(left=x - side / 2, top=y - side / 2, side=side)

    @property
    def center(self) -> tuple[float, float]:
        """Its center x and y, in pixels of the image."""
        return self.left + self.side / 2, self.top + self.side / 2

    def rounded(self) -> Window:
        """Return the window moved to whole pixels, halves up."""
        left, top, side = (floor(v + 0.5) for v in (self.left, self.top, self.side))
        return Window(left=left, top=top, side=side)

    def inner(self, share: float) -> Window:
        """Return its middle part, with that share of its side."""
        return Window.around(*self.center, self.side * share)

    def settled(self, size: int) -> Window:
        """Return the window on whole pixels if a patch of ``size`` pixels shows it reduced."""
        # Then it moves by half a pixel of the patch at most, and the patch can be averaged over
        # whole areas. An enlarged window stays, since the error would be enlarged with it.
        return self.rounded() if self.side >= size else self


def cut(
    image: UInt8Array, window: Window, size: int, *, fill: int = FILL, aligned_corners: bool = False
) -> UInt8Array:
    """Cut a window out of an image and resize it: by area if reduced, bilinearly if enlarged.

    Args:
        image: (H, W, 3) or (H, W) uint8.
        window: Window, on whole pixels if it is not smaller than the patch.
        size: Side of the patch, a copy, which has the channels of the image.
        fill: Value outside the image.
        aligned_corners: Whether an enlarged window is stretched until the centers of its corner
            pixels coincide with those of the patch.
    """
    if window.side >= size:
        crop = _crop(image, window, fill)
        if window.side == size:
            return crop
        shrunk = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
        return cast("UInt8Array", shrunk)
    if aligned_corners:
        step, x, y = (window.side - 1) / (size - 1), window.left, window.top
    else:
        step = window.side / size
        # OpenCV counts from pixel centers, windows from pixel edges: half a pixel of each.
        x, y = window.left + step / 2 - 0.5, window.top + step / 2 - 0.5
    patch = cv2.warpAffine(
        image,
        np.array([[step, 0, x], [0, step, y]]),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(fill, fill, fill),
    )
    return cast("UInt8Array", patch)


def _crop(image: UInt8Array, window: Window, fill: int) -> UInt8Array:
    left, top, side = int(window.left), int(window.top), int(window.side)
    height, width = image.shape[:2]
    crop = np.full((side, side, *image.shape[2:]), fill, np.uint8)
    x1, x2 = max(left, 0), min(left + side, width)
    y1, y2 = max(top, 0), min(top + side, height)
    if x1 < x2 and y1 < y2:
        crop[y1 - top : y2 - top, x1 - left : x2 - left] = image[y1:y2, x1:x2]
    return crop


def polygon_label(polygons: list[Float64Array], window: Window, size: int) -> UInt8Array:
    """Rasterize (P, 2) x, y polygons in the window of a label: (size, size) uint8, 1 inside.

    COCO's ``frPoly`` draws them at the resolution of the label.
    """
    origin = np.array([window.left, window.top])
    scaled = [(polygon - origin) * (size / window.side) for polygon in polygons]
    # pycocotools decodes columns first.
    return np.ascontiguousarray(decode_rle(rasterize(scaled, size, size)))


def code_label(mask: UInt8Array, window: Window, patch: int, inner: int, size: int) -> UInt8Array:
    """Cut the label of a (H, W) uint8 mask that exists in pixels only, exactly as the patch is cut.

    The window is that of the patch, whose central part, ``inner`` pixels wide, the label shows.

    Returns:
        (size, size) uint8, 1 where more than half of a pixel belongs to the object.
    """
    shares = cut(mask * np.uint8(255), window, patch, fill=0)
    margin = (patch - inner) // 2
    shares = shares[margin : margin + inner, margin : margin + inner]
    if size != inner:
        method = cv2.INTER_AREA if size < inner else cv2.INTER_LINEAR
        shares = cast("UInt8Array", cv2.resize(shares, (size, size), interpolation=method))
    return (shares > 127).astype(np.uint8)
