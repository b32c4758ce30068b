# SPDX-License-Identifier: Apache-2.0
"""The compiled operations on boxes against their references, bit for bit in float32."""

from __future__ import annotations

import numpy as np
from tests.simulated_gpu.ptx.device import Device
from tests.simulated_gpu.ptx.memory import Array

from foveate.kernels.decode_boxes.reference import decode_box


def boxes_of(count: int, seed: int) -> Array:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(-20, 600, (count, 2))
    sides = np.exp(generator.uniform(0, 6, (count, 2)))
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def decode(device: Device, boxes: Array, deltas: Array, height: int, width: int) -> Array:
    """Boxes (R, 4), deltas (R, C, 4); return (R, C, 4)."""
    results = device.empty(deltas.shape, "float32", "results")
    means, stds = (0.0, 0.01, -0.02, 0.03), (0.1, 0.11, 0.2, 0.21)
    counters = device.launch(
        "decode_boxes",
        boxes=device.upload(boxes, "boxes"),
        deltas=device.upload(deltas, "deltas"),
        results=results,
        rows=len(boxes),
        classes=deltas.shape[1],
        **{f"mean_{axis}": value for axis, value in zip("xywh", means, strict=True)},
        **{f"std_{axis}": value for axis, value in zip("xywh", stds, strict=True)},
        height=height,
        width=width,
    )
    assert results.written.all()
    assert counters.threads["local load"] == 0
    assert counters.stores.sectors * 32 == -(-results.nbytes // 32) * 32
    want = [
        [decode_box(b, d, means, stds, height, width) for d in row]
        for b, row in zip(boxes.tolist(), deltas.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(results.array, np.array(want, np.float32))
    return results.array


def test_decoded_boxes_equal_the_reference(device: Device) -> None:
    boxes = boxes_of(37, 0)
    deltas = np.random.default_rng(1).normal(0, 3, (37, 5, 4)).astype(np.float32)
    found = decode(device, boxes, deltas, 480, 640)
    assert (found[..., 0] > 0).any()
    assert (found[..., 2] == 640).any()


def test_growth_is_limited_and_shrinking_is_not(device: Device) -> None:
    boxes = np.array([[4000, 4000, 4010, 4020], [100, 100, 100, 120]], np.float32)
    growths = [-1e4, -7100.0, -100.0, 0.0, 20.5, 20.7, 20.9, 1e4]
    deltas = np.zeros((2, len(growths), 4), np.float32)
    deltas[:, :, 2] = deltas[:, :, 3] = growths
    found = decode(device, boxes, deltas, 1 << 14, 1 << 14)
    sides = found[0, :, 2] - found[0, :, 0]
    np.testing.assert_allclose(sides[[0, -1]], [0, 625], rtol=1e-3)


def test_boxes_are_taken_and_scaled(device: Device) -> None:
    boxes = boxes_of(20, 3)
    kept = np.random.default_rng(4).integers(-1, 20, 140).astype(np.int32)
    kept[:4] = [20, -7, 2**31 - 1, 19]  # three that name no box
    taken = device.empty((140, 4), "float32", "taken")
    counters = device.launch(
        "take_boxes",
        boxes=device.upload(boxes, "boxes"),
        kept=device.upload(kept, "kept"),
        taken=taken,
        capacity=20,
        count=140,
        horizontal=0.3,
        vertical=1.7,
    )
    factors = np.array([0.3, 1.7, 0.3, 1.7], np.float32)
    exists = (kept >= 0) & (kept < 20)
    want = np.where(exists[:, None], boxes[np.where(exists, kept, 0)] * factors, np.float32(0))
    assert taken.written.all()
    assert counters.stores.excess == 1
    np.testing.assert_array_equal(taken.array, want)
