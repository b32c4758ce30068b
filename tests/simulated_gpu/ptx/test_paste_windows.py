# SPDX-License-Identifier: Apache-2.0
"""The compiled windows mode of bilinear upsampling: bits, areas and boxes."""

from __future__ import annotations

import numpy as np
import pytest
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.device import Device
from tests.simulated_gpu.ptx.memory import Array

from foveate.kernels.launch_shapes import paste_stage_rows
from foveate.kernels.mask_boxes.reference import paste, tight_box

WINDOWS = [
    [10.2, 5.7, 70.4, 66.0],
    [-30.0, -20.5, 90.0, 100.0],
    [60.0, 30.0, 200.0, 90.0],
    [3.5, 4.5, 6.0, 5.0],
    [200.0, 10.0, 40.0, 40.0],
    [20.0, 20.0, 0.2, 0.3],
    [0.0, 0.0, 97.0, 83.0],
    [30.0, 10.0, 12.0, 60.0],
]


def run(
    device: Device,
    logits: Array,
    geometry: Array,
    height: int,
    width: int,
    *,
    threshold: float = 0.25,
    square: bool = False,
    count: int | None = None,
    columns: int | None = None,
) -> tuple[Array, Array, Array, Counters]:
    """Logits (K, S, S); return masks (K, height, width) bool, areas, boxes, and the counts."""
    windows, size, _ = logits.shape
    words, bands = -(-width // 32), -(-height // 64)
    bits = device.empty((windows, height, words), "uint32", "bits")
    partials = device.empty((windows, bands, 5), "int32", "partials")
    suffix = "f16" if logits.dtype == np.float16 else "f32"
    counters = device.launch(
        f"paste_windows_{suffix}",
        logits=device.upload(logits, "logits"),
        geometry=device.upload(geometry.astype(np.float32), "geometry"),
        count=None if count is None else device.upload(np.array([count], np.int32), "count"),
        columns=None if columns is None else device.upload(np.array([columns]), "columns"),
        bits=bits,
        partials=partials,
        windows=windows,
        size=size,
        height=height,
        width=width,
        threshold=threshold,
        square=int(square),
        stage_rows=paste_stage_rows(size),
    )
    areas = device.empty((windows,), "int32", "areas")
    boxes = device.empty((windows, 4), "float32", "boxes")
    device.launch(
        "paste_boxes", partials=partials, areas=areas, boxes=boxes, windows=windows, bands=bands
    )
    assert bits.written.all()
    assert counters.threads["local load"] == 0
    spread = np.unpackbits(bits.array.view(np.uint8), axis=2, bitorder="little")
    assert not spread[:, :, width:].any()
    return spread[:, :, :width].astype(bool), areas.array, boxes.array, counters


def check(
    found: tuple[Array, Array, Array, Counters], logits: Array, geometry: Array, threshold: float
) -> None:
    masks, areas, boxes, _ = found
    for mask, area, box, own, place in zip(masks, areas, boxes, logits, geometry, strict=True):
        want, values = paste(own, place.tolist(), threshold, *mask.shape)
        near = np.abs(values - threshold) <= 2e-5 * np.abs(own).max()
        assert ((mask == want) | near).all()
        assert near.mean() < 0.01
        assert area == mask.sum()
        assert tuple(box) == tight_box(mask)


@pytest.mark.parametrize("dtype", ["f4", "f2"])
def test_masks_areas_and_boxes_equal_the_reference(device: Device, dtype: str) -> None:
    logits = np.random.default_rng(0).standard_normal((len(WINDOWS), 14, 14)).astype(dtype)
    geometry = np.array(WINDOWS, np.float32)
    check(run(device, logits, geometry, 83, 97), logits, geometry, 0.25)


def test_wide_images_take_several_chunks_of_words(either_way: Device) -> None:
    logits = np.random.default_rng(1).standard_normal((2, 9, 9)).astype(np.float32)
    geometry = np.array([[900.0, 3.0, 300.0, 60.0], [-5.0, 40.0, 1300.0, 50.0]], np.float32)
    check(run(either_way, logits, geometry, 70, 1100), logits, geometry, 0.25)


def test_logits_too_wide_for_shared_memory_are_read_directly(device: Device) -> None:
    assert paste_stage_rows(360) == 0
    logits = np.random.default_rng(2).standard_normal((2, 360, 360)).astype(np.float32)
    geometry = np.array([[1.0, 2.0, 40.0, 30.0], [-400.0, -390.0, 430.0, 420.0]], np.float32)
    check(run(device, logits, geometry, 30, 45), logits, geometry, 0.25)


def test_windows_that_are_none_give_empty_masks(device: Device) -> None:
    nan, inf = float("nan"), float("inf")
    strange = [[nan, 0, 9, 9], [0, 0, inf, 9], [0, -inf, 9, 9], [0, 3e5, 9, 9], [0, 0, 9, 1e9]]
    logits = np.ones((5, 4, 4), np.float32)
    masks, areas, boxes, _ = run(device, logits, np.array(strange), 20, 40)
    assert not masks.any()
    assert not areas.any()
    assert not boxes.any()


def test_a_mask_of_one_pixel_has_a_box(device: Device) -> None:
    logits = np.ones((2, 4, 4), np.float32)
    geometry = np.array([[20.0, 11.0, 0.2, 0.3], [-3.0, -3.0, 4.0, 4.0]])
    _, areas, boxes, _ = run(device, logits, geometry, 70, 40)
    assert areas.tolist() == [1, 1]
    assert boxes.tolist() == [[20, 11, 21, 12], [0, 0, 1, 1]]


def test_squares_count_and_validity(device: Device) -> None:
    logits = np.random.default_rng(3).standard_normal((4, 5, 5)).astype(np.float32)
    squares = np.array([[2, 3, 20, 1], [1, 1, 30, 0], [5, 6, 9, 1], [0, 0, 33, 1]], np.float32)
    masks, areas, _, _ = run(device, logits, squares, 40, 33, square=True, count=3)
    for k, exists in enumerate((True, False, True, False)):
        x0, y0, side, _ = squares[k].tolist()
        want, _ = paste(logits[k], (x0, y0, side, side), 0.25, 40, 33)
        np.testing.assert_array_equal(masks[k], want & exists)
        assert areas[k] == masks[k].sum()


@pytest.mark.parametrize("columns", [-3, 0, 33, 50, 64, 1 << 40])
def test_columns_that_the_image_lacks_are_clipped(device: Device, columns: int) -> None:
    logits = np.random.default_rng(5).standard_normal((2, 6, 6)).astype(np.float32)
    geometry = np.array([[-5.0, 3.0, 90.0, 70.0], [0.0, 0.0, 0.0, 40.0]], np.float32)
    masks, areas, boxes, _ = run(device, logits, geometry, 66, 64, columns=columns)
    width = min(max(columns, 0), 64)
    want, _ = paste(logits[0], geometry[0].tolist(), 0.25, 66, width)
    np.testing.assert_array_equal(masks[0, :, :width], want)
    assert areas.tolist() == [want.sum(), 0] == masks.sum((1, 2)).tolist()
    assert tuple(boxes[0]) == tight_box(want)


def test_bits_are_most_of_what_is_moved(device: Device) -> None:
    logits = np.random.default_rng(4).standard_normal((1, 56, 56)).astype(np.float32)
    *_, counters = run(device, logits, np.array([[0.0, 0.0, 512.0, 256.0]]), 256, 512)
    assert counters.stores.excess <= 1.25
    assert counters.loads.excess <= 1.25
    moved = (counters.loads.sectors + counters.stores.sectors) * 32
    assert moved <= 1.25 * (logits.nbytes + 256 * 512 // 8)


def test_a_window_of_more_rows_than_are_staged_together_is_made_in_lots(device: Device) -> None:
    # 64 rows of the window take 37 rows of logits: 58 rows those 34 that are staged, 6 the rest.
    logits = np.random.default_rng(6).standard_normal((1, 44, 44)).astype(np.float32)
    geometry = np.array([[0.0, -2.0, 64.0, 80.0]])
    found = run(device, logits, geometry, 64, 64)
    check(found, logits, geometry, 0.25)
    assert found[3].loads.sectors * 32 <= 1.25 * logits.nbytes
