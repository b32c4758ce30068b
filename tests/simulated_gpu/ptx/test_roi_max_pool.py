# SPDX-License-Identifier: Apache-2.0
"""The compiled ROI max pooling against its reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.plugin_ops import ROI_MAX_POOL
from tests.kernels.running import Array
from tests.simulated_gpu.ptx.compilation import ARCHITECTURES
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.driver import SimulatedGpu

from foveate.kernels.plugins.roi_max_pool.reference import roi_max_pool

pytestmark = pytest.mark.parametrize("architecture", [*ARCHITECTURES, "sm_80"], indirect=True)
KERNELS = {"f32x4": ("f4", 4), "f32x1": ("f4", 3), "f16x8": ("f2", 8), "f16x1": ("f2", 5)}
ROUNDINGS = ("caffe", "v2")


def maps(dtype: str, channels: int, seed: int = 0) -> Array:
    """(2, 13, 17, channels)."""
    drawn = np.random.default_rng(seed).standard_normal((2, 13, 17, channels))
    return drawn.astype(dtype)


def regions(count: int, seed: int = 1) -> Array:
    """(count, 5) in pixels of an image of 272 x 208; some stick out, some have no area."""
    generator = np.random.default_rng(seed)
    corners = generator.uniform(-60, 250, (count, 2))
    sides = generator.uniform(-20, 200, (count, 2)) * (generator.random((count, 1)) > 0.1)
    which = generator.integers(0, 2, (count, 1))
    return np.concatenate([which, corners, corners + sides], axis=1).astype(np.float32)


def pool(
    gpu: SimulatedGpu,
    kernel: str,
    features: Array,
    rois: Array,
    rounding: str,
    cells: tuple[int, int],
) -> tuple[Array, Counters]:
    """Return (R, rows, columns, C), and the counts."""
    outputs = [((len(rois), *cells, features.shape[3]), features.dtype)]
    numbers = {"scale": 1 / 16, "rounding": rounding, "tables": "tables" in kernel}
    (pooled,), counters = gpu.run(ROI_MAX_POOL, [features, rois], outputs, **numbers)
    return pooled, counters[f"foveate_{kernel}"]


def wanted(features: Array, rois: Array, rounding: str, cells: tuple[int, int]) -> Array:
    pooled = roi_max_pool(features.transpose(0, 3, 1, 2), rois, cells, 1 / 16, rounding)
    return pooled.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("form", ["roi_max_pool", "roi_max_pool_tables"])
@pytest.mark.parametrize("suffix", KERNELS)
def test_pooling_equals_its_reference(gpu: SimulatedGpu, suffix: str, form: str) -> None:
    dtype, channels = KERNELS[suffix]
    features, rois = maps(dtype, channels), regions(23)
    for rounding, cells in (("caffe", (7, 7)), ("v2", (3, 5))):
        found, _ = pool(gpu, f"{form}_{suffix}", features, rois, rounding, cells)
        np.testing.assert_array_equal(found, wanted(features, rois, rounding, cells))


def test_corners_at_halves_round_away_from_zero(gpu: SimulatedGpu) -> None:
    features = maps("f4", 4)
    corners = np.array([-24.0, -8.0, 8.0, 24.0, 40.0, 56.0, 200.0], np.float32)
    rois = np.array([[0, a, a, b, b] for a in corners for b in corners], np.float32)
    for rounding in ROUNDINGS:
        found, _ = pool(gpu, "roi_max_pool_f32x4", features, rois, rounding, (2, 3))
        np.testing.assert_array_equal(found, wanted(features, rois, rounding, (2, 3)))


@pytest.mark.parametrize("form", ["roi_max_pool_f32x4", "roi_max_pool_tables_f32x4"])
def test_strange_regions_give_zeros(gpu: SimulatedGpu, form: str) -> None:
    features = maps("f4", 4)
    nan, inf = float("nan"), float("inf")
    strange = [[0, nan, 0, 9, 9], [0, 0, 0, nan, 9], [nan, 0, 0, 9, 9], [2, 0, 0, 99, 99]]
    strange += [[-1, 0, 0, 99, 99], [0, 1e9, 1e9, 2e9, 2e9], [0, 0, 5000, 99, 6000]]
    found, _ = pool(gpu, form, features, np.array(strange, np.float32), "caffe", (3, 3))
    assert (found == 0).all()
    endless = np.array([[0, -inf, -inf, inf, inf], [1, -1e30, -1e30, 1e30, 1e30]], np.float32)
    found, _ = pool(gpu, form, features, endless, "caffe", (1, 1))
    np.testing.assert_array_equal(found[:, 0, 0], features.max(axis=(1, 2)))


@pytest.mark.parametrize("form", ["roi_max_pool_f32x4", "roi_max_pool_tables_f32x4"])
def test_a_nan_in_a_bin_stays(gpu: SimulatedGpu, form: str) -> None:
    features = maps("f4", 4)
    features[0, 3, 4, 1] = np.nan
    rois = np.array([[0, 0, 0, 271, 207]], np.float32)
    found, _ = pool(gpu, form, features, rois, "caffe", (2, 2))
    want = wanted(features, rois, "caffe", (2, 2))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(want))
    assert np.isnan(found).sum() == 1


@pytest.mark.parametrize("suffix", ["f32x4", "f16x8"])
def test_pooling_moves_little_more_than_its_bins(gpu: SimulatedGpu, suffix: str) -> None:
    dtype, _ = KERNELS[suffix]
    features = np.random.default_rng(2).standard_normal((1, 37, 50, 256)).astype(dtype)
    rois = np.array([[0, 30, 40, 500, 420], [0, 100, 20, 640, 330]], np.float32)
    found, counters = pool(gpu, f"roi_max_pool_{suffix}", features, rois, "v2", (7, 7))
    spans = np.round(rois[:, 1:] / 16)
    pixels = ((spans[:, 2] - spans[:, 0]) * (spans[:, 3] - spans[:, 1])).sum()
    assert counters.loads.excess <= 1.25
    assert counters.stores.excess == 1
    assert counters.loads.sectors * 32 <= 1.25 * pixels * 256 * features.itemsize
    assert counters.stores.sectors * 32 == found.nbytes
    assert counters.bytes_written == found.nbytes
