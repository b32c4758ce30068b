# SPDX-License-Identifier: Apache-2.0
"""Proposed boxes of a data set's images, as COCO results give them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from foveate.datasets import read_json
from foveate.datasets.fields import box, field, integer, number
from foveate.datasets.segmentations import encode_segmentation
from foveate.errors import DataError
from foveate.images.decoding import MAX_PIXELS


class ProposalTable:
    """Boxes by the id of their image, best first, in two arrays that processes share.

    Args:
        image_ids: (N,) the id of each box's image.
        boxes: (N, 4) x1, y1, x2, y2 in pixels of the image, right and bottom exclusive.
        scores: (N,), higher is better; equals stay in order.
    """

    def __init__(
        self,
        image_ids: NDArray[np.int64],
        boxes: NDArray[np.float32],
        scores: NDArray[np.float64],
    ) -> None:
        order = np.lexsort((-scores, image_ids))
        self._ids = image_ids[order]
        self._boxes = boxes[order]

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def digest(self) -> str:
        """SHA-256 in hex of all boxes, in their order."""
        return hashlib.sha256(self._ids.tobytes() + self._boxes.tobytes()).hexdigest()

    def of_image(self, identifier: int, most: int) -> NDArray[np.float32]:
        """The best boxes of an image, at most `most`: (N, 4) xyxy; none if it has none."""
        first, last = np.searchsorted(self._ids, [identifier, identifier + 1]).tolist()
        return self._boxes[first : min(last, first + most)]

    @classmethod
    def from_results(cls, results: Iterable[Mapping[str, Any]]) -> ProposalTable:
        """Take COCO results: "image_id", "score", and "bbox" [x, y, w, h] or "segmentation".

        Raises:
            DataError: A result has none of these; the text names its place.
        """
        identifiers, boxes, scores = [], [], []
        for position, result in enumerate(results, 1):
            try:
                identifiers.append(field(result, "image_id", integer))
                scores.append(field(result, "score", number))
                x, y, width, height = _box(result)
            except ValueError as error:
                raise DataError(
                    f"result number {position} is no proposal with image_id, score and bbox "
                    f"or segmentation ({error})",
                    remedy="write COCO results with the data set's image ids",
                ) from error
            boxes.append((x, y, x + width, y + height))
        return cls(
            np.array(identifiers, np.int64),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float64),
        )

    @classmethod
    def read(cls, *files: Path) -> ProposalTable:
        """Read files of COCO results, such as the published chunks of 500 images each.

        Raises:
            DataError: A file cannot be read, or holds no list of results.
        """
        results: list[Mapping[str, Any]] = []
        for file in files:
            content = read_json(file, remedy="give a list of COCO results")
            if not isinstance(content, list):
                raise DataError(
                    f"expected a list of COCO results, found {type(content).__name__}",
                    file=file,
                    remedy="write a list with the data set's image ids, or give a bundle that proposes",
                )
            results += content
        return cls.from_results(results)


def _box(result: Mapping[str, Any]) -> list[float]:
    """A result's box, or that of its run-length code, which may be of an image of any size."""
    if result.get("bbox"):
        return field(result, "bbox", box)
    segmentation = result.get("segmentation")
    height, width = map(integer, field(segmentation, "size", list))
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"its segmentation is of {width} x {height} pixels")
    found: list[float] = coco_mask.toBbox(encode_segmentation(segmentation, height, width)).tolist()
    return found
