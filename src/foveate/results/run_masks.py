# SPDX-License-Identifier: Apache-2.0
"""Masks that are kept as runs, since they come from a file and have no logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveate.arrays import Array, UInt8Array
from foveate.results.masks import Masks
from foveate.results.window_mask import ColumnRuns


class RunMasks(Masks):
    """Masks of runs.

    Args:
        runs: Runs of each mask.
        height: Number of rows of the image.
        width: Number of columns of the image.
    """

    def __init__(self, runs: Sequence[ColumnRuns], *, height: int, width: int) -> None:
        super().__init__(height=height, width=width)
        self._all = runs

    def __len__(self) -> int:
        return len(self._all)

    def _select(self, index: slice | Array) -> RunMasks:
        chosen = [self._all[i] for i in np.arange(len(self))[index].tolist()]
        return RunMasks(chosen, height=self._height, width=self._width)

    def _runs(self, index: int) -> ColumnRuns:
        return self._all[index]


def column_runs(mask: UInt8Array) -> ColumnRuns:
    """Return the runs of a mask, (H, W) uint8 of 0 and 1."""
    edges = np.diff(np.pad(mask.T, [(0, 0), (1, 1)]).astype(np.int8), axis=1)
    columns, starts = np.nonzero(edges == 1)
    return ColumnRuns(columns, starts, np.nonzero(edges == -1)[1])
