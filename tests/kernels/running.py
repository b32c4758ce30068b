# SPDX-License-Identifier: Apache-2.0
"""Running one operation on a device, from NumPy arrays to NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from foveate.kernels import Op
from foveate.runtime.devices import Buffer, Device, Stream

Array: TypeAlias = NDArray[Any]
Inputs: TypeAlias = Sequence[Array | Sequence[Array] | None]
Outputs: TypeAlias = Sequence[tuple[tuple[int, ...], DTypeLike]]
Numbers: TypeAlias = Any


def run(
    device: Device,
    op: Op,
    inputs: Inputs,
    outputs: Outputs,
    *,
    poison: bool = True,
    **numbers: Numbers,
) -> list[Array]:
    """Upload, launch, download.

    Args:
        device: The device.
        op: The operation.
        inputs: Arrays, lists of arrays or None, in the order of its arguments.
        outputs: Shape and dtype of each output.
        poison: Whether to fill outputs before; without, the device itself does so.
        numbers: Numbers of the operation.
    """
    stream = device.stream()
    given = upload_inputs(device, stream, inputs)
    results = [_poisoned(shape, np.dtype(dtype)) for shape, dtype in outputs]
    buffers = upload_inputs(device, stream, results) if poison else empty(device, outputs)
    device.launch(op, stream, *given, *buffers, **numbers)
    for buffer, result in zip(buffers, results, strict=True):
        device.download(buffer, result, stream)
    stream.synchronize()
    return results


def upload_inputs(device: Device, stream: Stream, inputs: Inputs) -> list[Any]:
    """Return a buffer for each array; lists stay lists, and None stays None."""

    def upload(array: Array) -> Buffer:
        buffer = device.allocate(array.shape, array.dtype)
        device.upload(np.ascontiguousarray(array), buffer, stream)
        return buffer

    return [
        upload(item) if isinstance(item, np.ndarray) else item and [upload(one) for one in item]
        for item in inputs
    ]


def empty(device: Device, outputs: Outputs) -> list[Any]:
    """Return a buffer for each output."""
    return [device.allocate(shape, np.dtype(dtype)) for shape, dtype in outputs]


def _poisoned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    size = prod(shape) * dtype.itemsize
    return np.full(size, 0xA5, np.uint8).view(dtype).reshape(shape)
