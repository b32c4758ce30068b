# SPDX-License-Identifier: Apache-2.0
"""The compiled windows mode of bilinear upsampling: bits, areas and boxes."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.plugin_ops import PASTE
from tests.kernels.running import Array
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.driver import SimulatedGpu

from foveate.kernels.mask_boxes.op import MASK_BOXES, WIDEST_STAGED
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
    gpu: SimulatedGpu,
    logits: Array,
    windows: Array,
    height: int,
    width: int,
    *,
    threshold: float = 0.25,
    count: int | None = None,
    columns: int | None = None,
) -> tuple[Array, Array, Array, Counters]:
    """Logits (K, S, S); return masks (K, height, width) bool, areas, boxes, and the counts."""
    total, words = len(logits), -(-width // 32)
    inputs = [
        logits,
        windows.astype(np.float32),
        None if count is None else np.array([count], np.int32),
        None if columns is None else np.array([columns]),
    ]
    outputs = [((total, height, words), np.uint32), ((total,), np.int32), ((total, 4), np.float32)]
    numbers = {"threshold": threshold, "width": width}
    (bits, areas, boxes), counters = gpu.run(PASTE, inputs, outputs, **numbers)
    spread = np.unpackbits(bits.view(np.uint8), axis=2, bitorder="little")
    assert not spread[:, :, width:].any()
    pasting = counters[f"foveate_paste_windows_{'f16' if logits.itemsize == 2 else 'f32'}"]
    return spread[:, :, :width].astype(bool), areas, boxes, pasting


def check(
    found: tuple[Array, Array, Array, Counters], logits: Array, windows: Array, threshold: float
) -> None:
    masks, areas, boxes, _ = found
    for mask, area, box, own, place in zip(masks, areas, boxes, logits, windows, strict=True):
        want, values = paste(own, place.tolist(), threshold, *mask.shape)
        near = np.abs(values - threshold) <= 2e-5 * np.abs(own).max()
        assert ((mask == want) | near).all()
        assert near.mean() < 0.01
        assert area == mask.sum()
        assert tuple(box) == tight_box(mask)


@pytest.mark.parametrize("dtype", ["f4", "f2"])
def test_masks_areas_and_boxes_equal_the_reference(gpu: SimulatedGpu, dtype: str) -> None:
    logits = np.random.default_rng(0).standard_normal((len(WINDOWS), 14, 14)).astype(dtype)
    windows = np.array(WINDOWS, np.float32)
    check(run(gpu, logits, windows, 83, 97), logits, windows, 0.25)


def test_wide_images_take_several_chunks_of_words(either_way: SimulatedGpu) -> None:
    logits = np.random.default_rng(1).standard_normal((2, 9, 9)).astype(np.float32)
    windows = np.array([[900.0, 3.0, 300.0, 60.0], [-5.0, 40.0, 1300.0, 50.0]], np.float32)
    check(run(either_way, logits, windows, 70, 1100), logits, windows, 0.25)


def test_logits_too_wide_for_shared_memory_are_read_directly(gpu: SimulatedGpu) -> None:
    assert WIDEST_STAGED < 360
    logits = np.random.default_rng(2).standard_normal((2, 360, 360)).astype(np.float32)
    windows = np.array([[1.0, 2.0, 40.0, 30.0], [-400.0, -390.0, 430.0, 420.0]], np.float32)
    check(run(gpu, logits, windows, 30, 45), logits, windows, 0.25)


def test_windows_that_are_none_give_empty_masks(gpu: SimulatedGpu) -> None:
    nan, inf = float("nan"), float("inf")
    strange = [[nan, 0, 9, 9], [0, 0, inf, 9], [0, -inf, 9, 9], [0, 3e5, 9, 9], [0, 0, 9, 1e9]]
    logits = np.ones((5, 4, 4), np.float32)
    masks, areas, boxes, _ = run(gpu, logits, np.array(strange), 20, 40)
    assert not masks.any()
    assert not areas.any()
    assert not boxes.any()


def test_a_mask_of_one_pixel_has_a_box(gpu: SimulatedGpu) -> None:
    logits = np.ones((2, 4, 4), np.float32)
    windows = np.array([[20.0, 11.0, 0.2, 0.3], [-3.0, -3.0, 4.0, 4.0]])
    _, areas, boxes, _ = run(gpu, logits, windows, 70, 40)
    assert areas.tolist() == [1, 1]
    assert boxes.tolist() == [[20, 11, 21, 12], [0, 0, 1, 1]]


def test_windows_beyond_the_count_and_padding_have_no_mask(gpu: SimulatedGpu) -> None:
    logits = np.random.default_rng(3).standard_normal((4, 5, 5)).astype(np.float32)
    windows = np.array([[2, 3, 20, 20], [1, 1, 0, 30], [5, 6, 9, 9], [0, 0, 33, 33]], np.float32)
    masks, areas, _, _ = run(gpu, logits, windows, 40, 33, count=3)
    for k, exists in enumerate((True, False, True, False)):
        want, _ = paste(logits[k], windows[k].tolist(), 0.25, 40, 33)
        np.testing.assert_array_equal(masks[k], want & exists)
        assert areas[k] == masks[k].sum()


@pytest.mark.parametrize("columns", [-3, 0, 33, 50, 64, 1 << 40])
def test_columns_that_the_image_lacks_are_clipped(gpu: SimulatedGpu, columns: int) -> None:
    logits = np.random.default_rng(5).standard_normal((2, 6, 6)).astype(np.float32)
    windows = np.array([[-5.0, 3.0, 90.0, 70.0], [0.0, 0.0, 0.0, 40.0]], np.float32)
    masks, areas, boxes, _ = run(gpu, logits, windows, 66, 64, columns=columns)
    width = min(max(columns, 0), 64)
    want, _ = paste(logits[0], windows[0].tolist(), 0.25, 66, width)
    np.testing.assert_array_equal(masks[0, :, :width], want)
    assert areas.tolist() == [want.sum(), 0] == masks.sum((1, 2)).tolist()
    assert tuple(boxes[0]) == tight_box(want)


def test_bits_are_most_of_what_is_moved(gpu: SimulatedGpu) -> None:
    logits = np.random.default_rng(4).standard_normal((1, 56, 56)).astype(np.float32)
    *_, counters = run(gpu, logits, np.array([[0.0, 0.0, 512.0, 256.0]]), 256, 512)
    assert counters.stores.excess <= 1.25
    assert counters.loads.excess <= 1.25
    moved = (counters.loads.sectors + counters.stores.sectors) * 32
    assert moved <= 1.25 * (logits.nbytes + 256 * 512 // 8)


def test_a_window_of_more_rows_than_are_staged_together_is_made_in_lots(gpu: SimulatedGpu) -> None:
    # 64 rows of the window take 37 rows of logits: 58 rows those 34 that are staged, 6 the rest.
    logits = np.random.default_rng(6).standard_normal((1, 44, 44)).astype(np.float32)
    windows = np.array([[0.0, -2.0, 64.0, 80.0]])
    found = run(gpu, logits, windows, 64, 64)
    check(found, logits, windows, 0.25)
    assert found[3].loads.sectors * 32 <= 1.25 * logits.nbytes


def test_boxes_alone_are_those_of_the_masks(gpu: SimulatedGpu) -> None:
    logits = np.random.default_rng(7).standard_normal((len(WINDOWS), 14, 14)).astype(np.float32)
    windows = np.array(WINDOWS, np.float32)
    inputs, outputs = [logits, windows, np.array([6], np.int32)], [((len(WINDOWS), 4), np.float32)]
    numbers = {"threshold": 0.25, "image_height": 83, "image_width": 97}
    (boxes,), _ = gpu.run(MASK_BOXES, inputs, outputs, **numbers)
    _, _, want, _ = run(gpu, logits, windows, 83, 97, count=6)
    np.testing.assert_array_equal(boxes, want)
    assert boxes[:6].any()
