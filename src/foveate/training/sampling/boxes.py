# SPDX-License-Identifier: Apache-2.0
"""Boxes: overlaps, regression targets, and proposals of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from foveate.arrays import Float32Array, Float64Array, Int64Array
from foveate.datasets import read_json
from foveate.datasets.fields import box, field, integer, number
from foveate.datasets.segmentations import encode_segmentation
from foveate.errors import DataError
from foveate.images.decoding import MAX_PIXELS


@dataclass(frozen=True, kw_only=True)
class BoxStatistics:
    """The statistics by which box targets are normalized, and predictions scaled back.

    Args:
        mean: (4,) means of t_x, t_y, t_w, t_h over foregrounds.
        std: Standard deviations of the same.
    """

    mean: tuple[float, float, float, float]
    std: tuple[float, float, float, float]

    def normalize(self, deltas: Float32Array) -> Float32Array:
        """Subtract the mean from (R, 4) targets, and divide them by the deviation."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        normalized: Float32Array = (deltas - mean) / std
        return normalized


def box_iou(boxes: Float32Array, others: Float32Array, *, edge: float = 0.0) -> Float32Array:
    """Compute the intersection over union of (N, 4) and (M, 4) xyxy boxes: (N, M).

    ``edge`` is added to every width and height: 0 if right and bottom are exclusive, 1 if the right
    edge is the last pixel.
    """
    shared = _shared(boxes, others, edge)
    total = _areas(boxes, edge)[:, None] + _areas(others, edge)[None] - shared
    iou: Float32Array = (shared / np.maximum(total, 1e-9)).astype(np.float32)
    return iou


def inside_share(boxes: Float32Array, others: Float32Array, *, edge: float = 0.0) -> Float32Array:
    """Compute the share of (N, 4) xyxy boxes inside each of (M, 4): (N, M), see ``box_iou``."""
    area = np.maximum(_areas(boxes, edge), 1e-9)
    share: Float32Array = (_shared(boxes, others, edge) / area[:, None]).astype(np.float32)
    return share


def encode_deltas(boxes: Float32Array, truths: Float32Array) -> Float32Array:
    """Compute (R, 4) box targets t_x, t_y, t_w, t_h, not normalized, of (R, 4) xyxy boxes.

    They are offsets of centers in box sizes, and logarithms of size ratios: Girshick et al., "Rich
    feature hierarchies" (CVPR 2014), appendix C, equations 6 to 9.
    """
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)
    true_size = np.maximum(truths[:, 2:] - truths[:, :2], 1e-3)
    offset = (truths[:, :2] + truths[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2 / size
    return np.concatenate([offset, np.log(true_size / size)], axis=1).astype(np.float32)


def _shared(boxes: Float32Array, others: Float32Array, edge: float) -> Float32Array:
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared: Float32Array = np.clip(high - low + edge, 0, None).prod(2)
    return shared


def _areas(boxes: Float32Array, edge: float) -> Float32Array:
    areas: Float32Array = (boxes[:, 2:] - boxes[:, :2] + edge).prod(1)
    return areas


class ProposalTable:
    """Boxes by the id of their image, best first, in two arrays that processes share.

    Args:
        image_ids: (N,) id of the image of each box.
        boxes: (N, 4) x1, y1, x2, y2 in pixels of the image, right and bottom exclusive.
        scores: (N,) scores, higher is better; equal ones keep their order.
    """

    def __init__(self, image_ids: Int64Array, boxes: Float32Array, scores: Float64Array) -> None:
        # By image, then best first: the proposals of an image are one slice.
        order = np.lexsort((-scores, image_ids))
        self._ids = image_ids[order]
        self._boxes = boxes[order]

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def digest(self) -> str:
        """The SHA-256, in hexadecimal, of all boxes in their order."""
        return hashlib.sha256(self._ids.tobytes() + self._boxes.tobytes()).hexdigest()

    def of_image(self, identifier: int, most: int) -> Float32Array:
        """Return the best boxes of an image, at most ``most``: (N, 4) xyxy."""
        first, last = np.searchsorted(self._ids, [identifier, identifier + 1]).tolist()
        return self._boxes[first : min(last, first + most)]

    @classmethod
    def from_results(cls, results: Iterable[Mapping[str, Any]]) -> ProposalTable:
        """Build a table from COCO results.

        Raises:
            DataError: A result has no valid image id, score and box; the message names its place.
        """
        identifiers, boxes, scores = [], [], []
        for position, result in enumerate(results, 1):
            try:
                identifiers.append(field(result, "image_id", integer))
                scores.append(field(result, "score", number))
                x, y, width, height = _box(result)
            except ValueError as error:
                raise DataError(
                    f"result number {position} is not a proposal with image_id, score and bbox "
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
    def read(cls, file: Path) -> ProposalTable:
        """Read a file of COCO results.

        Raises:
            DataError: It cannot be read, or contains no list of proposals.
        """
        content = read_json(file, remedy="use a list of COCO results")
        if not isinstance(content, list):
            raise DataError(
                f"expected a list of COCO results, found {type(content).__name__}",
                file=file,
                remedy="write a list with the image ids of the data set, or pass a bundle",
            )
        return cls.from_results(content)


def _box(result: Mapping[str, Any]) -> list[float]:
    """Return the box of a result, or that of its run-length code, which may be of any size."""
    if result.get("bbox"):
        return field(result, "bbox", box)
    segmentation = result.get("segmentation")
    height, width = map(integer, field(segmentation, "size", list))
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"its segmentation is of {width} x {height} pixels")
    found: list[float] = coco_mask.toBbox(encode_segmentation(segmentation, height, width)).tolist()
    return found
