# SPDX-License-Identifier: Apache-2.0
"""Global memory: allocations in one arena, each access checked against them.

NOTE: Allocations lie at least 256 bytes apart, so that an access which starts and ends inside live
bytes lies in one allocation. The state of each byte is 0 (not allocated), 1 (allocated, never written)
or 2 (written). The common case, all lanes inside one allocation that is written throughout, costs
two reductions.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from tests.simulated_gpu.ptx.faults import Misaligned, OutOfBounds, Uninitialized

Array = NDArray[Any]

GLOBAL_BASE = 1 << 48  # above all that a process can map
GAP = 256
UNALLOCATED, ALLOCATED, WRITTEN = 0, 1, 2
UNSIGNED: dict[int, np.dtype[Any]] = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}


@dataclass
class Allocation:
    """A piece of global memory; `offset` counts bytes in the arena."""

    name: str
    memory: Memory
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    filled: bool

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def address(self) -> int:
        return GLOBAL_BASE + self.offset

    @property
    def array(self) -> Array:
        """The bytes as they are now, as a view."""
        raw = self.memory.data[self.offset : self.offset + self.nbytes]
        array: Array = raw.view(self.dtype).reshape(self.shape)
        return array

    @property
    def written(self) -> Array:
        """Which bytes were written, as booleans."""
        state = self.memory.state[self.offset : self.offset + self.nbytes]
        return np.asarray(state == WRITTEN)


class Memory:
    """An arena.

    Args:
        capacity: Bytes; pages are taken from the system when they are touched.
    """

    def __init__(self, capacity: int = 1 << 28) -> None:
        self.data = np.zeros(capacity, np.uint8)
        self.state = np.zeros(capacity, np.uint8)
        self._views = words(self.data)
        self._state_views = words(self.state)
        self._allocations: list[Allocation] = []
        self._starts: list[int] = []
        self._end = GAP

    def upload(self, array: Array, name: str, shift: int = 0) -> Allocation:
        """Copy an array in; `shift` bytes behind an address that is a multiple of 256."""
        allocation = self.empty(array.shape, array.dtype, name, shift)
        allocation.array[...] = array
        self.state[allocation.offset : allocation.offset + allocation.nbytes] = WRITTEN
        allocation.filled = True
        return allocation

    def empty(
        self, shape: tuple[int, ...], dtype: DTypeLike, name: str, shift: int = 0
    ) -> Allocation:
        """Allocate bytes that must be written before they are read."""
        offset = -(-(self._end + GAP) // GAP) * GAP + shift
        allocation = Allocation(name, self, offset, tuple(shape), np.dtype(dtype), filled=False)
        self._end = offset + allocation.nbytes
        assert self._end + GAP <= len(self.data), "the arena is full: give Memory more capacity"
        self.data[offset : self._end] = 0xA5
        self.state[offset : self._end] = ALLOCATED
        self._allocations.append(allocation)
        self._starts.append(offset)
        return allocation

    def refresh(self) -> None:
        """Update which allocations are written in full."""
        for allocation in self._allocations:
            allocation.filled = allocation.filled or bool(allocation.written.all())

    def offsets(self, addresses: Array, size: int, *, reads: bool, writes: bool) -> Array:
        """Check an access of `size` bytes per lane.

        Args:
            addresses: (lanes,) or (1,) uint64.
            size: 1, 2, 4, 8, 16 or 32.
            reads: Whether what is there is read.
            writes: Whether it is written; it counts as written from then on.

        Returns:
            Bytes from the start of the arena, int64.

        Raises:
            Misaligned: An address is no multiple of the size.
            OutOfBounds: A byte belongs to no allocation.
            Uninitialized: A byte that is read was never written.
        """
        offsets = (addresses - np.uint64(GLOBAL_BASE)).view(np.int64)
        if (offsets & (size - 1)).any():
            self._raise_misaligned(offsets, size)
        low, high = int(offsets.min()), int(offsets.max())
        index = bisect_right(self._starts, low) - 1
        if index >= 0:
            home = self._allocations[index]
            if home.filled and high + size <= home.offset + home.nbytes:
                return offsets
        if low < 0 or high + size > self._end:
            self._raise_outside(offsets, (offsets < 0) | (offsets + size > self._end), size, reads)
        self._check_states(offsets, size, reads=reads)
        if writes:
            self._mark(offsets, size)
        return offsets

    def _check_states(self, offsets: Array, size: int, *, reads: bool) -> None:
        last = self.state[offsets + (size - 1)]
        outside = (self.state[offsets] == UNALLOCATED) | (last == UNALLOCATED)
        if outside.any():
            self._raise_outside(offsets, outside, size, reads)
        if not reads:
            return
        word = min(size, 8)
        states = self._state_views[word]
        want = states.dtype.type(int.from_bytes(bytes([WRITTEN] * word), "little"))
        start = offsets >> (word.bit_length() - 1)
        for i in range(size // word):
            stale = states[start + i] != want
            if stale.any():
                position = int(np.argmax(stale))
                where = self.describe(int(offsets[position]))
                raise Uninitialized(f"reads {size} bytes that nobody wrote, {where}", position)

    def _mark(self, offsets: Array, size: int) -> None:
        word = min(size, 8)
        states = self._state_views[word]
        full = states.dtype.type(int.from_bytes(bytes([WRITTEN] * word), "little"))
        start = offsets >> (word.bit_length() - 1)
        for i in range(size // word):
            states[start + i] = full

    def view(self, itemsize: int) -> Array:
        """The arena as unsigned integers."""
        return self._views[itemsize]

    def describe(self, offset: int) -> str:
        """Describe the place of a byte by the nearest allocation."""
        if not self._allocations:
            return "with nothing allocated"

        def distance(a: Allocation) -> int:
            return max(a.offset - offset, offset - (a.offset + a.nbytes) + 1, 0)

        near = min(self._allocations, key=distance)
        if distance(near) > 1 << 40:
            return f"at address {(offset + GLOBAL_BASE) % 2**64:#x}, far from every allocation"
        at = offset - near.offset
        extent = f"'{near.name}' ({near.nbytes} bytes)"
        if at < 0:
            return f"{-at} bytes before the start of {extent}"
        return (
            f"at byte {at} of {extent}"
            if at < near.nbytes
            else (f"{at - near.nbytes} bytes past the end of {extent}")
        )

    def _raise_misaligned(self, offsets: Array, size: int) -> None:
        position = int(np.argmax((offsets & (size - 1)) != 0))
        address = int(offsets[position]) + GLOBAL_BASE
        raise Misaligned(
            f"accesses {size} bytes at address {address:#x}, no multiple of {size}, "
            f"{self.describe(int(offsets[position]))}",
            position,
        )

    def _raise_outside(self, offsets: Array, outside: Array, size: int, reads: bool) -> None:
        position = int(np.argmax(outside))
        verb = "reads" if reads else "writes"
        where = self.describe(int(offsets[position]))
        raise OutOfBounds(f"{verb} {size} bytes outside every allocation, {where}", position)


def words(raw: Array) -> dict[int, Array]:
    """Return views of bytes (a multiple of 8) as unsigned integers, by their size."""
    return {size: raw.view(dtype) for size, dtype in UNSIGNED.items()}
