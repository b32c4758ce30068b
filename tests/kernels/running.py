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
Spec: TypeAlias = tuple[tuple[int, ...], DTypeLike]
Outputs: TypeAlias = Sequence[Spec | list[Spec]]
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
        outputs: Shape and dtype of each output; a list for an argument that is a list.
        poison: Whether to fill outputs before; without, the device itself does so.
        numbers: Numbers of the operation.

    Returns:
        All outputs, those of lists too, one after the other.
    """
    stream = device.stream()
    given = upload_inputs(device, stream, inputs)
    buffers = empty(device, outputs)
    flat = [one for item in buffers for one in (item if isinstance(item, list) else [item])]
    results = [_poisoned(buffer.shape, buffer.dtype) for buffer in flat]
    if poison:
        for buffer, result in zip(flat, results, strict=True):
            device.upload(result, buffer, stream)
    device.launch(op, stream, *given, *buffers, **numbers)
    for buffer, result in zip(flat, results, strict=True):
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
    """Return a buffer for each output; lists stay lists."""

    def allocate(spec: Spec) -> Buffer:
        shape, dtype = spec
        return device.allocate(shape, np.dtype(dtype))

    return [
        [allocate(one) for one in item] if isinstance(item, list) else allocate(item)
        for item in outputs
    ]


def _poisoned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    size = prod(shape) * dtype.itemsize
    return np.full(size, 0xA5, np.uint8).view(dtype).reshape(shape)
