# SPDX-License-Identifier: Apache-2.0
"""The launches of the operation on a device."""

from __future__ import annotations

from collections.abc import Sequence

from foveate.kernels.plans import DeviceArray, Scratch, Steps


def decode_boxes(
    scratch: Scratch,
    boxes: DeviceArray,
    deltas: DeviceArray,
    decoded: DeviceArray,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    height: int,
    width: int,
) -> Steps:
    """Yield the one launch of the decoding."""
    del scratch
    rows, classes = deltas.shape[:2]
    if rows and classes:
        arrays = {"boxes": boxes, "deltas": deltas, "results": decoded}
        sizes = {"rows": rows, "classes": classes, "height": height, "width": width}
        yield "decode_boxes", {**arrays, **regression_numbers(mean, std), **sizes}


def regression_numbers(mean: Sequence[float], std: Sequence[float]) -> dict[str, float]:
    """Return mean and standard deviation of the four deltas as a kernel takes them."""
    return {
        f"{name}_{axis}": value
        for name, values in (("mean", mean), ("std", std))
        for axis, value in zip("xywh", values, strict=True)
    }
