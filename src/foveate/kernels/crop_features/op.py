# SPDX-License-Identifier: Apache-2.0
"""Cutting the patches of the selected windows out of the maps of all levels."""

from collections.abc import Sequence

import numpy as np

from foveate.kernels.crop_features import cpu
from foveate.kernels.op import (
    DeviceArray,
    Launch,
    Launches,
    Memory,
    Op,
    addresses,
    ceil_div,
    element,
    int32,
    require_at_most,
)

_MOST_WINDOWS = 65535  # blocks along y
_THREADS = 256


def launches(
    memory: Memory,
    maps: Sequence[DeviceArray],
    indices: DeviceArray,
    patches: DeviceArray,
    *,
    step: int,
) -> Launches:
    """Yield the single launch; see :func:`cpu.crop_features`."""
    assert all(item.dtype == patches.dtype for item in maps), f"patches of {patches.dtype}"
    count, channels, *sides = patches.shape
    require_at_most(_MOST_WINDOWS, count, "windows")
    size = sides[0] if sides else 1
    values = channels * size * size  # of a patch
    if not count or not values:
        return
    # 16 bytes per store are possible if every patch begins at a multiple of 16 bytes.
    widest = 16 // patches.dtype.itemsize
    lanes = widest if values % widest == 0 and patches.address % 16 == 0 else 1
    shapes = np.array([item.shape[2:] for item in maps], np.int32).reshape(-1, 2)
    yield Launch(
        f"foveate_crop_features_{element(patches)}x{lanes}",
        grid=(ceil_div(values // lanes, _THREADS), count),
        block=_THREADS,
        args=(
            *(memory.upload(addresses(maps)), memory.upload(shapes)),
            *(indices, patches),
            *int32(len(maps), channels, size, step),
        ),
    )


CROP_FEATURES = Op(
    "crop_features",
    cpu=cpu.crop_features,
    outputs=("patches",),
    source="crop_features/crop_features.cuh",
    launches=launches,
)
