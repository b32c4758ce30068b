# SPDX-License-Identifier: Apache-2.0
"""Quirks of the original Lua code, where a published number depends on them.

All of them are in the code of facebookresearch/deepmask and facebookresearch/multipathnet. Crashes
are not reproduced, nor are quirks that change no figure (a threshold of 1e-6 in place of a ReLU; a
batch that joins the foreground of one image with the background of another if both lack the other).

Training takes ``LegacyOptions`` as they are. ``foveate evaluate --reproduce-original`` runs a
pipeline on an ``OriginalDevice``, which has those that concern inference: ``shifted_scores`` and
``filler_rows``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from foveate.arrays import Float32Array, Int32Array
from foveate.kernels.op import Op
from foveate.kernels.select_top_k.cpu import select_top_k, windows_of
from foveate.kernels.select_top_k.op import SELECT_TOP_K
from foveate.runtime.devices import Buffer, CpuDevice, Stream
from foveate.typed_options import TypedOptions

_CERTAIN = 100.0  # a logit whose sigmoid is 1 in float32


@dataclass(frozen=True, kw_only=True)
class LegacyOptions(TypedOptions):
    """Quirks of the original training and inference, each off by default.

    Args:
        shifted_windows: DeepMask cuts windows at whole pixels of the image and mixes counting from
            0 with counting from 1. The label of a mask is one pixel of the image to the right of
            and below the patch, and on whole pixels of the label (``maskSampling``, ``cropTensor``,
            which changes its box in place). The patch of a score is up to two pixels to the left
            and above (``scoreSampling``). Off: patch and label show exactly the same window. An
            object of 20 px is enlarged 4.6 times, so one pixel becomes 4.6.
        aligned_corners: A window that is enlarged is stretched until the centers of its corner
            pixels coincide with those of the patch (``image.scale``). Off: the corners of the
            corner pixels do, so that the patch fits the label.
        one_sided_scales: A positive of a score batch shows its object at 92 to 92 * 2^.25 px, since
            of two overlapping bins of scale the first is taken (``createBBstruct``). Off: at 92 *
            2^-.125 to 92 * 2^.125.
        unscaled_negatives: A negative of a score batch is refused within 48 px of the center of an
            object up to 2.5 octaves larger or smaller, but each center is compared in the frame of
            its own scale, which is unrelated to the window's; and the hundredth try is always taken
            (``negSamplingBB``). Off: the paper's rule, see ``ScoreSamplerOptions``.
        crowds_as_positives: A score batch treats the middle of a crowd's box as an object. Off: a
            crowd is neither positive nor, near its center and scale, negative.
        inclusive_boxes: MultiPathNet's ground truth ends one pixel further right and down than its
            proposals, and overlaps count the edge as a pixel of its own (``getAnnotation``,
            ``boxoverlap``). Off: continuous coordinates, right and bottom exclusive.
        short_batches: From an image with fewer foregrounds (backgrounds) than requested, only as
            many are drawn as there are, with replacement, so that an image gives fewer than 64
            regions and other shares (``selectBBoxesOne``). Off: always 64, of which 16 foreground.
        mismatched_heads: The threshold by which regions are drawn and labeled is unrelated to the
            integral head that is trained on them, so that every head learns a mixture of all
            thresholds (``data.lua``). Off: each head has its own.
        constant_sharpmask_rate: SharpMask's learning rate stays at 1e-3, since the schedule is read
            only while the rate is 0. Off: it drops after epochs 50 and 80 as intended.
        shifted_scores: A score names the window one row above and one column to the right of its
            own, in the first row the one to the right, and in the last column the first one of its
            row, since a place that is counted from 1 is split as if from 0 (``getTopScores``). Two
            scores may name one window, and in the last row only the first window is ever named.
            Published average recalls probably contain this. Off: each names its own.
        filler_rows: From an image, at most as many windows are taken as the last and largest level
            has; the remaining proposals are the first window of the first level, again and again,
            with a score of 1 (``getTopScores``). Off: all windows there are.
    """

    shifted_windows: bool = False
    aligned_corners: bool = False
    one_sided_scales: bool = False
    unscaled_negatives: bool = False
    crowds_as_positives: bool = False
    inclusive_boxes: bool = False
    short_batches: bool = False
    mismatched_heads: bool = False
    constant_sharpmask_rate: bool = False
    shifted_scores: bool = False
    filler_rows: bool = False

    @classmethod
    def original(cls) -> LegacyOptions:
        """Return the options with every quirk of the original code turned on."""
        return cls(**{field.name: True for field in fields(cls)})


class OriginalDevice(CpuDevice):
    """The CPU device, except that windows are chosen as in the original code.

    Its figures can be compared with published ones.

    Args:
        legacy: Quirks, of which ``shifted_scores`` and ``filler_rows`` are read.
    """

    def __init__(self, legacy: LegacyOptions) -> None:
        super().__init__()
        self._select = replace(SELECT_TOP_K, cpu=partial(select_as_original, legacy))

    def launch(
        self, op: Op, stream: Stream, *buffers: Buffer | Sequence[Buffer] | None, **numbers: object
    ) -> None:
        """Enqueue an operation."""
        super().launch(self._select if op is SELECT_TOP_K else op, stream, *buffers, **numbers)


def select_as_original(
    legacy: LegacyOptions,
    grids: Sequence[Float32Array],
    indices: Int32Array,
    windows: Float32Array,
    scores: Float32Array,
    count: Int32Array,
    *,
    window_nms_iou: float,
    top_k: int,
    **geometry: Any,
) -> None:
    """Choose the best windows, and apply the quirks of the original code to them.

    ``legacy`` names the quirks. The other arguments are those of
    ``foveate.kernels.select_top_k.cpu.select_top_k``; the number of cells of the last grid bounds
    the number of windows.
    """
    room = min(top_k, grids[-1].size) if legacy.filler_rows else top_k
    first = top_k - room
    indices[:first], scores[:first] = 0, _CERTAIN  # the fillers have the highest score
    chosen = indices[first:]
    outputs = (chosen, windows[first:], scores[first:], count)
    select_top_k(grids, *outputs, window_nms_iou=window_nms_iou, top_k=room, **geometry)
    if legacy.shifted_scores:
        _shift(chosen[: count[0]], [grid.shape[3] for grid in grids])
    count += first
    existing = slice(int(count[0]))
    windows[existing] = windows_of(indices[existing], **geometry)


def _shift(cells: Int32Array, widths: Sequence[int]) -> None:
    """Move (N, 3) level, row, column: the place of a score, counted from 1, is split as from 0."""
    rows, columns = cells[:, 1], cells[:, 2]
    in_last = columns == np.array(widths)[cells[:, 0]] - 1
    cells[:, 1] = np.where(in_last, rows, np.maximum(rows - 1, 0))
    cells[:, 2] = np.where(in_last, 0, columns + 1)
