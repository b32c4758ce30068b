# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from foveate.kernels.roi_max_pool.variants import PooledMap, direct_bytes, is_direct, table_bytes

MIB = 2**20


def pooled_map(**changes: Any) -> PooledMap:
    options: dict[str, Any] = {
        "height": 150,
        "width": 200,
        "channels": 256,
        "itemsize": 2,
        "cache_bytes": 48 * MIB,
    }
    return PooledMap(**(options | changes))


def test_a_map_in_the_cache_is_read_directly_for_ordinary_boxes() -> None:
    assert is_direct(pooled_map(), [(30, 30)] * 100)


def test_tables_win_for_many_large_boxes_and_a_small_cache() -> None:
    assert not is_direct(pooled_map(cache_bytes=4 * MIB), [(150, 150)] * 400)


@pytest.mark.parametrize("rounding", ["caffe", "v2"])
def test_bytes_of_a_region_are_those_of_its_bins(rounding: str) -> None:
    # Everything misses: no cache. 14 rows make 7 bins of 2 under both rules.
    options = {"cache_bytes": 0, "rounding": rounding, "height": 14, "width": 14}
    pooled = pooled_map(**options)
    assert direct_bytes(pooled, [(14, 14)]) == 14 * 14 * 512
    assert table_bytes(pooled, [(14, 14)]) == 6 * 14 * 14 * 512 + 49 * 512


def test_bins_of_caffe_overlap_and_those_of_v2_do_not() -> None:
    caffe = direct_bytes(pooled_map(cache_bytes=0, height=1, width=1), [(10, 7)])
    v2 = direct_bytes(pooled_map(cache_bytes=0, height=1, width=1, rounding="v2"), [(10, 7)])
    assert (caffe, v2) == (16 * 7 * 512, 10 * 7 * 512)


def test_no_regions_and_no_pixels_cost_nothing() -> None:
    assert direct_bytes(pooled_map(), []) == 0
    assert direct_bytes(pooled_map(height=0), [(0, 3)]) == 0
