# SPDX-License-Identifier: Apache-2.0
"""The compiled selection against its reference: the same windows in the same order."""

from __future__ import annotations

import numpy as np
import pytest
from tests.simulated_gpu.ptx.device import Device
from tests.simulated_gpu.ptx.memory import Array

from foveate.kernels.select_top_k.reference import select_top_k

OPTIONS = {"size": 160, "stride": 16, "padding": 32}
Found = tuple[Array, Array, Array, int]


def select(
    device: Device, grids: list[Array], factors: list[tuple[float, float]], limit: int, iou: float
) -> Found:
    """Return picks, geometry, scores and count."""
    shapes = np.array([g.shape[2:] for g in grids], np.int32)
    cells = sum(g.size for g in grids)
    starts = np.cumsum([0, *[g.size for g in grids]]).astype(np.int32)
    known = {
        "grids": device.pointers([device.upload(g, f"grid {i}") for i, g in enumerate(grids)]),
        "shapes": device.upload(shapes, "shapes"),
        "starts": device.upload(starts, "starts"),
    }
    keys, order = device.empty((cells,), "uint32", "keys"), device.empty((cells,), "int32", "order")
    windows = device.empty((cells, 4), "float32", "windows")
    outputs = {
        "picks": device.empty((limit, 3), "int32", "picks"),
        "geometry": device.empty((limit, 4), "float32", "geometry"),
        "scores": device.empty((limit,), "float32", "scores"),
        "count": device.empty((1,), "int32", "count"),
    }
    device.launch(
        "select_cells",
        **known,
        factors=device.upload(np.array(factors, np.float64), "factors"),
        keys=keys,
        windows=windows,
        levels=len(grids),
        cells=cells,
        **OPTIONS,
    )
    device.launch("select_order", keys=keys, order=order, cells=cells)
    counters = device.launch(
        "select_scan",
        **known,
        order=order,
        windows=windows,
        **outputs,
        levels=len(grids),
        cells=cells,
        limit=limit,
        iou=float(iou),
    )
    assert counters.threads["local load"] == 0
    assert all(output.written.all() for output in outputs.values())
    arrays = [outputs[name].array for name in ("picks", "geometry", "scores")]
    return arrays[0], arrays[1], arrays[2], int(outputs["count"].array[0])


def levels(seed: int) -> tuple[list[Array], list[tuple[float, float]]]:
    generator = np.random.default_rng(seed)
    sides = [(3, 4), (7, 9), (11, 13)]
    grids = [(generator.integers(-20, 20, (1, 1, *s)) / 4).astype(np.float32) for s in sides]
    return grids, [(2.0, 2.25), (1.0, 1.0), (0.5, 0.53)]


@pytest.mark.parametrize(("limit", "iou"), [(10, 0.9), (40, 0.6), (64, 0.3), (300, 0.9), (7, 1.0)])
def test_windows_equal_the_reference(device: Device, limit: int, iou: float) -> None:
    grids, factors = levels(limit)
    want = select_top_k(grids, limit, factors=factors, window_nms_iou=iou, **OPTIONS)
    picks, geometry, scores, count = select(device, grids, factors, limit, iou)
    assert count == len(want)
    assert picks[:count].tolist() == [list(pick) for _, pick, _ in want]
    assert scores[:count].tolist() == [score for score, _, _ in want]
    boxes = np.array([box for _, _, box in want]).astype(np.float32)
    np.testing.assert_array_equal(geometry[:count], boxes)
    assert (picks[count:, 0] == -1).all()
    assert (geometry[count:] == 0).all()
    assert (scores[count:] == -np.inf).all()


def test_more_windows_than_there_are_cells(device: Device) -> None:
    grids, factors = levels(1)
    picks, _, _, count = select(device, grids[:1], factors[:1], 20, 1.0)
    assert count == 12
    assert sorted(map(tuple, picks[:12].tolist())) == [
        (0, r, c) for r in range(3) for c in range(4)
    ]


def test_cells_that_fill_the_last_pass_leave_none_to_look_at(device: Device) -> None:
    # All of 256 cells are looked at, 256 at a time, and the result is still not full.
    grids = [np.random.default_rng(5).standard_normal((1, 1, 16, 16)).astype(np.float32)]
    want = select_top_k(grids, 256, factors=[(1.0, 1.0)], window_nms_iou=0.5, **OPTIONS)
    picks, _, _, count = select(device, grids, [(1.0, 1.0)], 256, 0.5)
    assert picks[:count].tolist() == [list(pick) for _, pick, _ in want]


def test_blocks_and_atomics_may_run_in_any_order(either_way: Device) -> None:
    grids, factors = levels(2)
    for iou in (0.7, 1.0):
        want = select_top_k(grids, 30, factors=factors, window_nms_iou=iou, **OPTIONS)
        picks, _, _, count = select(either_way, grids, factors, 30, iou)
        assert picks[:count].tolist() == [list(pick) for _, pick, _ in want]
