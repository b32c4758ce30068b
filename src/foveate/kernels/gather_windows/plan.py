# SPDX-License-Identifier: Apache-2.0
"""The launches of the operation on a device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveate.kernels.plans import DeviceArray, Scratch, Steps, addresses, element


def gather_windows(
    scratch: Scratch,
    maps: Sequence[DeviceArray],
    picks: DeviceArray,
    patches: DeviceArray,
    *,
    step: int,
) -> Steps:
    """Yield the one launch of the gathering."""
    count, channels, *sides = patches.shape
    size = sides[0] if sides else 1
    wide = 16 // patches.dtype.itemsize
    is_wide = channels * size * size % wide == 0 and patches.address % 16 == 0
    shapes = np.array([item.shape[2:] for item in maps], np.int32).reshape(-1, 2)
    if count and channels and size:
        yield (
            f"gather_windows_{element(patches)}x{wide if is_wide else 1}",
            {
                "maps": scratch.upload(addresses(maps)),
                "shapes": scratch.upload(shapes),
                "picks": picks,
                "patches": patches,
                "count": count,
                "levels": len(maps),
                "channels": channels,
                "size": size,
                "step": step,
            },
        )
