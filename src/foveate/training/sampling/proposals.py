# SPDX-License-Identifier: Apache-2.0
"""Proposed boxes of a data set's pictures, as COCO results give them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from foveate.errors import DataError

__all__ = ["ProposalTable"]


class ProposalTable:
    """Boxes by the id of their picture, best first, in two arrays that processes share.

    Args:
        picture_ids: (N,) the id of each box's picture.
        boxes: (N, 4) x1, y1, x2, y2 in pixels of the picture, right and bottom exclusive.
        scores: (N,), higher is better; equals stay in order.
    """

    def __init__(
        self,
        picture_ids: NDArray[np.int64],
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
    ) -> None:
        order = np.lexsort((-scores, picture_ids))
        self._ids = picture_ids[order]
        self._boxes = boxes[order]

    def __len__(self) -> int:
        return len(self._ids)

    def of_picture(self, identifier: int, most: int) -> NDArray[np.float32]:
        """The best boxes of a picture, at most `most`: (N, 4) xyxy; none if it has none."""
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
                box = result.get("bbox") or coco_mask.toBbox(result["segmentation"])
                x, y, width, height = (float(value) for value in box)
                identifiers.append(int(result["image_id"]))
                scores.append(float(result["score"]))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"result number {position} is no proposal with image_id, score and bbox "
                    f"or segmentation ({error!r})",
                    remedy="write COCO results, as `foveate run --json` does",
                ) from error
            boxes.append((x, y, x + width, y + height))
        return cls(
            np.array(identifiers, np.int64),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
        )

    @classmethod
    def read(cls, *files: Path) -> ProposalTable:
        """Read files of COCO results, such as the published chunks of 500 pictures each.

        Raises:
            DataError: A file cannot be read, or holds no list of results.
        """
        results: list[Mapping[str, Any]] = []
        for file in files:
            try:
                content = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise DataError(
                    "no proposals can be read", file=file, remedy="check the path"
                ) from error
            if not isinstance(content, list):
                raise DataError(
                    f"expected a list of COCO results, found {type(content).__name__}",
                    file=file,
                    remedy="give the list under 'annotations' of what `foveate run --json` writes",
                )
            results += content
        return cls.from_results(results)
