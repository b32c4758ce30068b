# SPDX-License-Identifier: Apache-2.0
"""Calls of every operation of a device, and of every kernel of the plugins."""

from __future__ import annotations

import numpy as np
from tests.kernels.plugin_ops import ROI_MAX_POOL, UPSAMPLE_MAP

from foveate.arrays import Array
from foveate.runtime.devices import CpuDevice, Device
from foveate.selftest import cases
from foveate.selftest.cases import Make
from foveate.selftest.running import Call, PreparedCall, largest_difference


def run_call(device: Device, call: Call) -> list[Array]:
    """Return the outputs of a call."""
    return PreparedCall(device, call).run()


def assert_right(device: Device, call: Call) -> None:
    """Compare with the results of the CPU, or of the reference."""
    found, expected = run_call(device, call), run_call(CpuDevice(), call)
    if call.tolerance:
        assert largest_difference(found, expected) <= call.tolerance
    else:
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def _regions(generator: np.random.Generator, count: int, extent: int) -> Array:
    corners = generator.uniform(-0.2 * extent, 0.8 * extent, (count, 2))
    sides = generator.uniform(1, 0.6 * extent, (count, 2))
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def _roi_max_pool(generator: np.random.Generator, scale: int) -> Call:
    features = generator.standard_normal((2, 9 * scale, 12 * scale, 8 * scale))
    boxes = _regions(generator, 6 * scale, 150 * scale)
    rois = np.concatenate([generator.integers(0, 2, (len(boxes), 1)), boxes], axis=1)
    return Call(
        op=ROI_MAX_POOL,
        inputs=[features.astype(np.float32), rois.astype(np.float32)],
        outputs=[((len(rois), 7, 7, 8 * scale), "float32")],
        numbers={"scale": 1 / 16},
    )


def _upsample_map(generator: np.random.Generator, scale: int) -> Call:
    maps, second = generator.standard_normal((2, 2, 3 * scale, 10, 14)).astype(np.float32)
    return Call(
        op=UPSAMPLE_MAP,
        inputs=[maps, second],
        outputs=[((2, 3 * scale, 20, 28), "float32")],
        tolerance=1e-4,  # 2e-5 of the largest value
    )


CASES: dict[str, Make] = {
    **cases.CASES,
    "roi_max_pool": _roi_max_pool,
    "upsample_map": _upsample_map,
}
