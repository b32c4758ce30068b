# SPDX-License-Identifier: Apache-2.0
"""The compiled pooling of foveal regions from several maps against its reference."""

from __future__ import annotations

import numpy as np
import pytest
from tests.ptx.counters import Counters
from tests.ptx.device import Device
from tests.ptx.memory import Array

from foveate.kernels.foveal_roi_pool import NORMALISATIONS, PAIRS
from foveate.kernels.foveal_roi_pool.reference import foveal_roi_pool

SCALES = (1.0, 1.5, 2.0, 4.0)
MAP_SCALES = (1 / 16, 1 / 8, 1 / 4)


def run(
    device: Device, dtype: str, boxes: Array, cells: tuple[int, int], rounding: str, how: str
) -> tuple[list[Array], list[Array], Counters]:
    """Return the results (R, C, rows, columns) a pair, those of the reference, and the counts."""
    generator = np.random.default_rng(0)
    shapes = np.array([[5, 7, 16], [10, 14, 8], [20, 28, 24]], np.int32)
    maps = [generator.standard_normal((1, *shape)).astype(dtype) for shape in shapes]
    maps[1][...] = 0
    gain = 1.0 if how == "none" else 20.0
    results = [
        device.empty((len(boxes), *cells, int(shapes[index, 2])), dtype, f"pair {region} {index}")
        for region, index in PAIRS
    ]
    counters = device.launch(
        f"foveal_roi_pool_{'f16' if dtype == 'float16' else 'f32'}",
        maps=device.pointers([device.upload(m, f"map {i}") for i, m in enumerate(maps)]),
        shapes=device.upload(shapes, "shapes"),
        map_scales=device.upload(np.array(MAP_SCALES, np.float32), "map_scales"),
        boxes=device.upload(boxes, "boxes"),
        scales=device.upload(np.array(SCALES), "scales"),
        pairs=device.upload(np.array(PAIRS, np.int32), "pairs"),
        results=device.pointers(results),
        box_count=len(boxes),
        pair_count=len(PAIRS),
        rows=cells[0],
        columns=cells[1],
        rounding=("caffe", "v2").index(rounding),
        normalisation=NORMALISATIONS.index(how),
        gain=gain,
    )
    assert all(result.written.all() for result in results)
    assert counters.threads["local load"] == 0
    want = foveal_roi_pool(
        [m.transpose(0, 3, 1, 2) for m in maps],
        MAP_SCALES,
        boxes,
        SCALES,
        PAIRS,
        cells,
        rounding=rounding,
        normalisation=how,
        gain=gain,
    )
    return [r.array.transpose(0, 3, 1, 2) for r in results], list(want), counters


def boxes_of(count: int) -> Array:
    generator = np.random.default_rng(1)
    corners = generator.uniform(-20, 90, (count, 2))
    sides = generator.uniform(1, 60, (count, 2))
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pooled_regions_equal_the_reference(device: Device, dtype: str) -> None:
    for rounding in ("caffe", "v2"):
        found, want, _ = run(device, dtype, boxes_of(3), (7, 7), rounding, "none")
        for f, w in zip(found, want, strict=True):
            np.testing.assert_array_equal(f, w.astype(dtype))


@pytest.mark.parametrize("how", ["l2", "rms"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_each_region_is_normalised_as_a_whole(device: Device, dtype: str, how: str) -> None:
    found, want, counters = run(device, dtype, boxes_of(3), (5, 3), "caffe", how)
    tolerance = 2e-6 if dtype == "float32" else 2**-10
    for f, w in zip(found, want, strict=True):
        assert np.abs(f - w).max() <= tolerance * max(np.abs(w).max(), 1e-6)
    assert counters.stores.excess <= 1.01
