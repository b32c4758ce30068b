# SPDX-License-Identifier: Apache-2.0
"""Saving the results of one image to a file, whose suffix selects the format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from foveate.errors import OptionError
from foveate.results.arguments import checked_path
from foveate.results.coco import CocoDocument
from foveate.system.files import write_file
from foveate.system.native_code import native_code

if TYPE_CHECKING:
    from foveate.arrays import Array, UInt8Array
    from foveate.results.detections import Detections, Proposals

_OVERLAYS = {
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 92],
    ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, 92],
    ".png": [],
}
_LONGEST_JPEG = 65_500  # pixels of a side; libjpeg refuses more, and OpenCV returns nothing


def save(
    path: str | os.PathLike[str],
    found: Detections | Proposals,
    image: Array | str | os.PathLike[str],
    class_names: tuple[str, ...],
) -> None:
    """Save results as a COCO document or as an overlay; see :meth:`Detections.save`."""
    target = Path(checked_path("path", path))
    suffix = target.suffix.lower()
    if suffix == ".json":
        if not isinstance(image, (str, os.PathLike)):
            what = f"a COCO document names its image, found {type(image).__name__}"
            raise OptionError(what, remedy="pass the path of the image")
        document = CocoDocument(class_names)
        document.add(os.fspath(image), found)
        write_file(target, document.to_text().encode())
    elif suffix in _OVERLAYS:
        write_overlay(target, found.draw(image))
    else:
        raise OptionError(
            f"the suffix {suffix!r} is unknown, expected .json, .jpg, .jpeg or .png",
            remedy="save COCO results as .json, or an overlay as .jpg or .png",
        )


@native_code()
def write_overlay(path: Path, overlay: UInt8Array) -> None:
    """Write an overlay in the format of the suffix: .jpg, .jpeg or .png.

    Args:
        path: The file.
        overlay: (H, W, 3) uint8 RGB. **It is modified in place**: its channels are reversed.

    Raises:
        OptionError: The overlay is too long for a JPEG.
        InputError: The file cannot be written.
    """
    suffix = path.suffix.lower()
    height, width = overlay.shape[:2]
    if suffix != ".png" and max(height, width) > _LONGEST_JPEG:
        raise OptionError(
            f"a JPEG has at most {_LONGEST_JPEG} pixels per side, the image has {width} x {height}",
            remedy="save it as .png, or the results as .json",
        )
    cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR, dst=overlay)
    # `cv2.imwrite` would neither replace the file in one step nor raise.
    _, encoded = cv2.imencode(suffix, overlay, _OVERLAYS[suffix])
    write_file(path, encoded.tobytes())
