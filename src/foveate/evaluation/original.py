# SPDX-License-Identifier: Apache-2.0
"""Windows chosen as the released Lua code chooses them (`getTopScores` of facebookresearch/deepmask)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from foveate.arrays import Float32Array, Int32Array
from foveate.kernels.select_top_k import SELECT_TOP_K
from foveate.kernels.select_top_k.host import select_top_k, window_geometry
from foveate.runtime.devices import CpuDevice
from foveate.training.original.legacy import LegacyOptions

if TYPE_CHECKING:
    from foveate.kernels.op import Op
    from foveate.runtime.devices import Buffer, Stream

_CERTAIN = 100.0  # a logit whose sigmoid is 1 in float32


class OriginalDevice(CpuDevice):
    """The host, but for the choice of windows, for pipelines whose figures stand beside published ones.

    Args:
        legacy: Which quirks of the released choice it has: `shifted_scores` and `filler_rows`.
    """

    def __init__(self, legacy: LegacyOptions) -> None:
        super().__init__()
        self._select = replace(SELECT_TOP_K, host=partial(select_as_original, legacy))

    def launch(
        self, op: Op, stream: Stream, *buffers: Buffer | Sequence[Buffer], **numbers: object
    ) -> None:
        """Enqueue an operation."""
        super().launch(self._select if op is SELECT_TOP_K else op, stream, *buffers, **numbers)


def select_as_original(
    legacy: LegacyOptions,
    grids: Sequence[Float32Array],
    picks: Int32Array,
    geometry: Float32Array,
    scores: Float32Array,
    count: Int32Array,
    *,
    factors: Sequence[tuple[float, float]],
    size: int,
    stride: int,
    padding: int,
    window_nms_iou: float,
) -> None:
    """Choose the best windows, and then do to them what the released code does.

    `legacy` says what. The other arguments are those of
    `foveate.kernels.select_top_k.host.select_top_k`; the last of the grids is the one whose number of
    cells bounds how many windows are chosen.
    """
    room = min(len(picks), grids[-1].size) if legacy.filler_rows else len(picks)
    first = len(picks) - room
    picks[:first], scores[:first] = 0, _CERTAIN  # the fillers: as good as can be, hence first
    chosen = picks[first:]
    select_top_k(
        grids,
        chosen,
        geometry[first:],
        scores[first:],
        count,
        factors=factors,
        size=size,
        stride=stride,
        padding=padding,
        window_nms_iou=window_nms_iou,
    )
    if legacy.shifted_scores:
        _shift(chosen[: count[0]], [grid.shape[3] for grid in grids])
    count += first
    existing = slice(int(count[0]))
    geometry[existing] = window_geometry(picks[existing], factors, size, stride, padding)


def _shift(cells: Int32Array, widths: Sequence[int]) -> None:
    """Move (N, 3) level, row, column: the place of a score, counted from 1, is read as if from 0."""
    rows, columns = cells[:, 1], cells[:, 2]
    in_last = columns == np.array(widths)[cells[:, 0]] - 1
    cells[:, 1] = np.where(in_last, rows, np.maximum(rows - 1, 0))
    cells[:, 2] = np.where(in_last, 0, columns + 1)
