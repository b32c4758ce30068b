# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from foveate.kernels.crop_features import cpu, reference


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("step", "size"), [(1, 1), (1, 3), (2, 6), (4, 12)])
def test_agrees_with_reference(step: int, size: int, dtype: type[np.generic]) -> None:
    rng = np.random.default_rng(step)
    grids = [(4, 5), (2, 3), (1, 1)]
    maps = [
        rng.standard_normal((1, 3, (h - 1) * step + size, (w - 1) * step + size)).astype(dtype)
        for h, w in grids
    ]
    indices = [
        (level, rng.integers(grids[level][0]), rng.integers(grids[level][1]))
        for level in (0, 2, 1, 0, 1)
    ]
    table = np.array([*indices, (-1, 0, 0)], np.int32)
    patches = np.full((6, 3, size, size), np.nan, dtype)
    cpu.crop_features(maps, table, patches, step=step)
    assert np.array_equal(patches, reference.crop_features(maps, table, size, step))


def test_vectors_need_no_patch_axes() -> None:
    maps = [np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)]
    patches = np.empty((2, 3), np.float32)
    cpu.crop_features(maps, np.array([(0, 1, 0), (-1, 0, 0)], np.int32), patches, step=1)
    assert patches.tolist() == [[2, 6, 10], [0, 0, 0]]
