# SPDX-License-Identifier: Apache-2.0
"""The compiled letterbox and resize against OpenCV: the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.running import Array
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.driver import SimulatedGpu

from foveate.images.resampling import resample
from foveate.kernels.letterbox.op import LETTERBOX, RESIZE
from foveate.runtime.devices.cuda_memory import CudaBuffer

MEAN, STD, FILL = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4), 104
TABLE = ((np.arange(256) - np.array(MEAN)[:, None]) / np.array(STD)[:, None]).astype(np.float32)
Level = tuple[int, int, int, int, int]  # canvas height and width, height and width, border


def image(height: int, width: int) -> Array:
    drawn = np.random.default_rng(height).integers(0, 256, (height, width, 3))
    return drawn.astype(np.uint8)


def letterbox(
    gpu: SimulatedGpu, original: Array, levels: list[Level], dtype: str
) -> tuple[list[Array], Counters]:
    """Return the canvases (3, H, W), and the counts."""
    assert len({level[4] for level in levels}) == 1
    canvases, counters = gpu.run(
        LETTERBOX,
        [original],
        [[((1, 3, *level[:2]), dtype) for level in levels]],
        sizes=[level[2:4] for level in levels],
        border=levels[0][4],
        mean=MEAN,
        std=STD,
        fill=FILL,
    )
    suffix = "f16" if dtype == "float16" else "f32"
    return [canvas[0] for canvas in canvases], counters[f"foveate_letterbox_{suffix}"]


def check(found: Array, original: Array, level: Level) -> None:
    """Each value is that of the byte that OpenCV computes."""
    canvas_height, canvas_width, height, width, border = level
    want = np.full((canvas_height, canvas_width, 3), FILL, np.uint8)
    want[border : border + height, border : border + width] = resample(original, height, width)
    for channel, table in enumerate(TABLE.astype(found.dtype)):
        np.testing.assert_array_equal(found[channel], table[want[..., channel]])


# An average with fractions, a blend, one over fractions and whole numbers, and a blend of the same.
LEVELS: list[Level] = [
    (40, 61, 30, 50, 4),
    (80, 101, 60, 81, 4),
    (9, 7, 5, 3, 4),
    (49, 62, 38, 53, 4),
]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_levels_hold_the_bytes_of_opencv(gpu: SimulatedGpu, dtype: str) -> None:
    original = image(37, 53)
    canvases, _ = letterbox(gpu, original, LEVELS, dtype)
    for canvas, level in zip(canvases, LEVELS, strict=True):
        check(canvas, original, level)


@pytest.mark.parametrize(
    "level", [(21, 33, 21, 33, 0), (80, 101, 60, 81, 10), (30, 40, 18, 27, 5), (20, 30, 9, 18, 2)]
)
def test_a_level_may_be_alone(gpu: SimulatedGpu, level: Level) -> None:
    original = image(36, 54)
    (canvas,), _ = letterbox(gpu, original, [level], "float32")
    check(canvas, original, level)


def resize(gpu: SimulatedGpu, original: Array, size: tuple[int, int]) -> tuple[Array, Counters]:
    """Return the resized image, and the counts."""
    (resized,), counters = gpu.run(RESIZE, [original], [((*size, 3), np.uint8)])
    return resized, counters["foveate_resize"]


@pytest.mark.parametrize(
    "size", [(37, 54), (20, 90), (74, 30), (1, 1), (8, 32), (70, 131), (37, 27), (1, 18), (74, 108)]
)
def test_resized_images_equal_those_of_opencv(gpu: SimulatedGpu, size: tuple[int, int]) -> None:
    original = image(37, 54)
    np.testing.assert_array_equal(resize(gpu, original, size)[0], resample(original, *size))


@pytest.mark.parametrize("size", [(12, 26), (12, 13), (6, 26)])
def test_whole_factors_round_as_opencv(gpu: SimulatedGpu, size: tuple[int, int]) -> None:
    # Many sums lie in the middle between two bytes.
    original = (image(24, 52) // 128 * 3).astype(np.uint8)
    np.testing.assert_array_equal(resize(gpu, original, size)[0], resample(original, *size))


def test_a_row_stays_one(gpu: SimulatedGpu) -> None:
    original = image(1, 9)
    np.testing.assert_array_equal(resize(gpu, original, (1, 5))[0], resample(original, 1, 5))


@pytest.mark.parametrize("shift", [1, 6, 15])
def test_an_image_may_lie_at_any_address(gpu: SimulatedGpu, shift: int) -> None:
    original, device = image(9, 23), gpu.device
    stream, byte = device.stream(), np.dtype(np.uint8)
    # The bytes before the image stay undefined, so that a read of them is an error.
    memory = device.allocate((shift + original.size,), byte)
    part = memory.part(shift, shift + original.size)
    shifted, resized = part.view(original.shape, byte), device.mirror((11, 30, 3), byte)
    assert isinstance(shifted, CudaBuffer)
    assert shifted.address % 16 == shift
    source = device.mirror(original.shape, byte)
    source.array[...] = original
    source.send(stream)
    device.copy(source.buffer, shifted, stream)

    def enqueue() -> None:
        device.launch(RESIZE, stream, shifted, resized.buffer)
        resized.fetch(stream)

    device.program([stream], enqueue, capturable=False).launch().synchronize()
    np.testing.assert_array_equal(resized.array, resample(original, 11, 30))


def test_a_row_that_does_not_fit_into_shared_memory_is_read_directly(gpu: SimulatedGpu) -> None:
    original, level = image(2, 7001), (8, 8, 4, 4, 2)
    (canvas,), _ = letterbox(gpu, original, [level], "float32")
    check(canvas, original, level)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "level", [(192, 256, 179, 224, 4), (128, 160, 127, 159, 0), (64, 96, 60, 80, 2)]
)
def test_a_launch_moves_little_more_than_the_image_and_the_canvas(
    gpu: SimulatedGpu, dtype: str, level: Level
) -> None:
    original = image(127, 159)
    (found,), counters = letterbox(gpu, original, [level], dtype)
    blocks = -(-level[0] // 64) * -(-level[1] // 64)
    # Each block reads them once, from the L2: the table, and the taps of its rows and columns.
    tables = blocks * (TABLE.nbytes + 2 * 64 * 20)
    assert counters.stores.sectors * 32 == found.nbytes
    assert counters.loads.excess <= 1.25
    least = original.nbytes + found.nbytes
    assert counters.bytes_read + counters.bytes_written <= 1.25 * (
        least + TABLE.nbytes + 20 * sum(level[2:4])
    )
    assert counters.bytes_moved <= 1.25 * (least + tables)


@pytest.mark.parametrize(
    ("size", "most"), [((64, 96), 1.25), ((128, 160), 1.25), ((64, 95), 1.4), ((128, 191), 1.4)]
)
def test_resizing_moves_little_more_than_both_images(
    gpu: SimulatedGpu, size: tuple[int, int], most: float
) -> None:
    original = image(128, 160)
    found, counters = resize(gpu, original, size)
    # Rows of a width that is no multiple of 32 start and end within a sector.
    taps = -(-size[0] // 64) * -(-size[1] // 64) * 2 * 64 * 20
    assert counters.bytes_moved <= most * (original.nbytes + found.nbytes + taps)
