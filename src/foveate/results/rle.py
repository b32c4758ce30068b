# SPDX-License-Identifier: Apache-2.0
"""COCO's compressed run-length code of a mask that exists as runs down its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as coco_mask

if TYPE_CHECKING:
    from foveate.arrays import Int64Array


def encode_runs(
    columns: Int64Array, starts: Int64Array, ends: Int64Array, height: int, width: int
) -> dict[str, Any]:
    """Encode a mask.

    Args:
        columns: (R,): column of each run of foreground, in the order of columns, then rows.
        starts: (R,): its first row.
        ends: (R,): the row after its last one; larger than the start.
        height: Rows of the mask.
        width: Columns of the mask.

    Returns:
        ``{"size": [height, width], "counts": str}``, as COCO's tools read it.
    """
    counts = _run_lengths(columns * height + starts, columns * height + ends, height * width)
    encoded = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def _run_lengths(starts: Int64Array, ends: Int64Array, total: int) -> list[int]:
    """Return the lengths of the runs of zeros and ones in turn, down the columns."""
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
