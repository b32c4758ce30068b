# SPDX-License-Identifier: Apache-2.0
"""Running one operation on a device, from NumPy arrays to NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from foveate.kernels import Op
from foveate.runtime.devices import Device, Mirror

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
    given, written = mirrors_of(device, inputs), empty(device, outputs)
    for mirror in flat(given):
        mirror.send(stream)
    if poison:
        for mirror in flat(written):
            mirror.array.reshape(-1).view(np.uint8)[:] = 0xA5
            mirror.send(stream)
    buffers = buffers_of([*given, *written])

    def enqueue() -> None:
        device.launch(op, stream, *buffers, **numbers)
        for mirror in flat(written):
            mirror.fetch(stream)

    device.program([stream], enqueue, capturable=True).launch().synchronize()
    return [mirror.array.copy() for mirror in flat(written)]


def mirrors_of(device: Device, inputs: Inputs) -> list[Any]:
    """Return a mirror with the content of each array; lists stay lists, and None stays None."""

    def mirror(array: Array) -> Mirror:
        made = device.mirror(array.shape, array.dtype)
        np.copyto(made.array, array)
        return made

    return [
        mirror(item) if isinstance(item, np.ndarray) else item and [mirror(one) for one in item]
        for item in inputs
    ]


def empty(device: Device, outputs: Outputs) -> list[Any]:
    """Return a mirror for each output; lists stay lists."""

    def mirror(spec: Spec) -> Mirror:
        shape, dtype = spec
        return device.mirror(shape, np.dtype(dtype))

    return [
        [mirror(one) for one in item] if isinstance(item, list) else mirror(item)
        for item in outputs
    ]


def flat(mirrors: Sequence[Any]) -> list[Mirror]:
    """Return all mirrors, those of lists too, one after the other."""
    return [
        one
        for item in mirrors
        for one in (item if isinstance(item, list) else [item])
        if one is not None
    ]


def buffers_of(mirrors: Sequence[Any]) -> list[Any]:
    """Return the memory on the device of each mirror; lists stay lists, and None stays None."""
    return [
        [one.buffer for one in item] if isinstance(item, list) else item and item.buffer
        for item in mirrors
    ]
