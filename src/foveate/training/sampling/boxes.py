# SPDX-License-Identifier: Apache-2.0
"""Boxes: overlaps, and the way from one to another that box regression learns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class BoxStatistics:
    """What box targets are normalised with, and predictions multiplied and moved back by.

    Attributes:
        mean: of t_x, t_y, t_w, t_h over foregrounds.
        std: their standard deviations.
    """

    mean: tuple[float, float, float, float]
    std: tuple[float, float, float, float]

    def normalise(self, deltas: NDArray[np.float32]) -> NDArray[np.float32]:
        """Subtract the mean of (R, 4) targets, and divide by the deviation."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        normalised: NDArray[np.float32] = (deltas - mean) / std
        return normalised


def box_iou(
    boxes: NDArray[np.float32], others: NDArray[np.float32], *, edge: float = 0.0
) -> NDArray[np.float32]:
    """Intersection over union of (N, 4) and (M, 4) xyxy boxes: (N, M).

    Args:
        boxes: right and bottom exclusive.
        others: the same.
        edge: added to every width and height; 1 for boxes whose last pixel is their right edge.
    """
    shared = _shared(boxes, others, edge)
    total = _areas(boxes, edge)[:, None] + _areas(others, edge)[None] - shared
    iou: NDArray[np.float32] = (shared / np.maximum(total, 1e-9)).astype(np.float32)
    return iou


def inside_share(
    boxes: NDArray[np.float32], others: NDArray[np.float32], *, edge: float = 0.0
) -> NDArray[np.float32]:
    """Share of each of (N, 4) xyxy boxes that lies in each of (M, 4): (N, M); see `box_iou`."""
    area = np.maximum(_areas(boxes, edge), 1e-9)
    share: NDArray[np.float32] = (_shared(boxes, others, edge) / area[:, None]).astype(np.float32)
    return share


def encode_deltas(boxes: NDArray[np.float32], truths: NDArray[np.float32]) -> NDArray[np.float32]:
    """Box targets: centre offset in box sizes, and log of the ratio of sizes.

    Girshick et al., "Rich feature hierarchies" (CVPR 2014), appendix C, equations 6 to 9.

    Args:
        boxes: (R, 4) xyxy.
        truths: (R, 4) xyxy that they are to become.

    Returns:
        (R, 4) t_x, t_y, t_w, t_h, not normalised.
    """
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)
    true_size = np.maximum(truths[:, 2:] - truths[:, :2], 1e-3)
    offset = (truths[:, :2] + truths[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2 / size
    return np.concatenate([offset, np.log(true_size / size)], axis=1).astype(np.float32)


def _shared(
    boxes: NDArray[np.float32], others: NDArray[np.float32], edge: float
) -> NDArray[np.float32]:
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared: NDArray[np.float32] = np.clip(high - low + edge, 0, None).prod(2)
    return shared


def _areas(boxes: NDArray[np.float32], edge: float) -> NDArray[np.float32]:
    areas: NDArray[np.float32] = (boxes[:, 2:] - boxes[:, :2] + edge).prod(1)
    return areas
