# SPDX-License-Identifier: Apache-2.0
"""Boxes alone; what the kernels make of every window is tested where they also write masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.kernels.host_build.driver import host_device
from tests.kernels.running import Array, run

from foveate.kernels.mask_boxes.op import MASK_BOXES
from foveate.kernels.mask_boxes.reference import paste, tight_box

HEIGHT, WIDTH, THRESHOLD = 71, 90, 0.25


def boxes_of(logits: Array, windows: Array, count: int) -> Array:
    outputs = [((len(windows), 4), np.float32)]
    numbers = {"threshold": THRESHOLD, "image_height": HEIGHT, "image_width": WIDTH}
    inputs = [logits, windows, np.array([count], np.int32)]
    (boxes,) = run(host_device(), MASK_BOXES, inputs, outputs, poison=False, **numbers)
    return boxes


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_boxes_are_those_of_the_reference(dtype: Any) -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        # Whole numbers and sides of a power of two: resampling is exact.
        logits = rng.integers(-3, 2, (4, 8, 8)).astype(dtype)
        corners = rng.integers(-30, 80, (4, 2))
        sides = rng.choice([8, 16, 32, 64], (4, 2))
        windows = np.concatenate([corners, sides], 1).astype(np.float32)
        count = int(rng.integers(-1, 6))
        for k, box in enumerate(boxes_of(logits, windows, count)):
            mask, _ = paste(logits[k], windows[k].tolist(), THRESHOLD, HEIGHT, WIDTH)
            assert tuple(box) == (tight_box(mask) if k < count else (0, 0, 0, 0))


def test_logits_too_wide_to_be_staged_are_read_directly() -> None:
    logits = np.full((1, 353, 353), -1, np.float32)
    logits[0, 20:300, 40:310] = 1
    windows = np.array([[-10, -20, 353, 353]], np.float32)
    assert boxes_of(logits, windows, 1).tolist() == [[30, 0, WIDTH, HEIGHT]]


def test_without_windows_nothing_is_launched() -> None:
    assert boxes_of(np.zeros((0, 8, 8), np.float32), np.zeros((0, 4), np.float32), 0).size == 0
