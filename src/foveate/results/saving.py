# SPDX-License-Identifier: Apache-2.0
"""Saving the results of one image to a file, whose suffix selects the format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from foveate.errors import OptionError
from foveate.results.coco import CocoDocument
from foveate.system.files import write_file

if TYPE_CHECKING:
    from foveate.arrays import Array
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
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix == ".json":
        if not isinstance(image, (str, os.PathLike)):
            what = f"a COCO document names its image, found {type(image).__name__}"
            raise OptionError(what, remedy="pass the path of the image")
        document = CocoDocument(class_names)
        document.add(os.fspath(image), found)
        write_file(target, document.to_text().encode())
    elif suffix in _OVERLAYS:
        _, height, width = found.masks.shape
        if suffix != ".png" and max(height, width) > _LONGEST_JPEG:
            raise OptionError(
                f"a JPEG has at most {_LONGEST_JPEG} pixels per side, the image has {width} x {height}",
                remedy="save the overlay as .png",
            )
        pixels = cv2.cvtColor(found.draw(image), cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(suffix, pixels, _OVERLAYS[suffix])
        write_file(target, encoded.tobytes())
    else:
        raise OptionError(
            f"the suffix {suffix!r} is unknown, expected .json, .jpg, .jpeg or .png",
            remedy="save COCO results as .json, or an overlay as .jpg or .png",
        )
