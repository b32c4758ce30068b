# SPDX-License-Identifier: Apache-2.0
"""COCO's compressed run-length code of a mask of which only a crop exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as coco_mask

if TYPE_CHECKING:
    from foveate.arrays import Bools, Longs

__all__ = ["encode_crop"]


def encode_crop(crop: Bools, top: int, left: int, height: int, width: int) -> dict[str, Any]:
    """Encode a mask that is zero outside a crop.

    Args:
        crop: (h, w).
        top: Row of the crop in the mask.
        left: Column of the crop in the mask.
        height: Rows of the mask.
        width: Columns of the mask.

    Returns:
        ``{"size": [height, width], "counts": str}``, as COCO's tools read it.
    """
    counts = _run_lengths(crop, top, left, height, height * width)
    encoded = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def _run_lengths(crop: Bools, top: int, left: int, height: int, total: int) -> list[int]:
    """Return the lengths of the runs of zeros and ones in turn, down the columns."""
    columns = np.zeros((crop.shape[1], crop.shape[0] + 2), np.int8)
    columns[:, 1:-1] = crop.T
    steps = np.diff(columns, axis=1)  # 1 where a run starts, -1 where it has ended
    starts, ends = (
        _positions(steps == 1, top, left, height),
        _positions(steps == -1, top, left, height),
    )
    if not len(starts):
        return [total]
    apart = starts[1:] != ends[:-1]  # a run may go on in the next column
    starts = starts[np.concatenate([[True], apart])]
    ends = ends[np.concatenate([apart, [True]])]
    edges = np.stack([starts, ends], axis=1).ravel()
    counts: list[int] = np.diff(edges, prepend=0).tolist()
    if edges[-1] < total:
        counts.append(total - int(edges[-1]))
    return counts


def _positions(hits: Bools, top: int, left: int, height: int) -> Longs:
    """Return the places of the hits in the mask, counted down its columns."""
    column, row = np.nonzero(hits)
    positions: Longs = (column + left) * height + row + top
    return positions
