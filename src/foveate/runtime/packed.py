# SPDX-License-Identifier: Apache-2.0
"""Small results in one piece of memory, so that one copy fetches all of them."""

from __future__ import annotations

from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from foveate.arrays import Array
    from foveate.runtime.devices import Buffer, Device, Stream

_ALIGNMENT = 256  # bytes; TensorRT requires it of outputs
_BYTE = np.dtype(np.uint8)


class Packed:
    """Named arrays that are fetched together.

    Args:
        device: Device that writes the arrays.
        arrays: Shape and dtype of each array.
    """

    def __init__(
        self, device: Device, **arrays: tuple[tuple[int, ...], np.dtype[np.generic]]
    ) -> None:
        sizes = [prod(shape) * dtype.itemsize for shape, dtype in arrays.values()]
        starts = [0, *accumulate(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)]
        self._arrays = arrays
        self._places = {
            name: slice(start, start + size)
            for name, start, size in zip(arrays, starts, sizes, strict=False)
        }
        self._mirror = device.mirror((starts[-1],), _BYTE)
        whole = self._mirror.buffer
        self._buffers = {
            name: whole.part(place.start, place.stop).view(*arrays[name])
            for name, place in self._places.items()
        }

    def buffer(self, name: str) -> Buffer:
        """Return the memory of an array on the device."""
        return self._buffers[name]

    def array(self, name: str) -> Array:
        """Return an array as it was fetched. It is overwritten by the next image."""
        shape, dtype = self._arrays[name]
        return self._mirror.array[self._places[name]].view(dtype).reshape(shape)

    def fetch(self, stream: Stream) -> None:
        """Enqueue the copy of all arrays."""
        self._mirror.fetch(stream)
