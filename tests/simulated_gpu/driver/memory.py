# SPDX-License-Identifier: Apache-2.0
"""Memory of the device and page-locked memory of the CPU, in one arena that notes accesses.

Memory of the device has addresses above all that a process can map, so that an access by the CPU
ends it, as it should. Page-locked memory has the same address on the CPU and on the device, as
CUDA's unified addressing has it; its bytes lie in the arena too, so that kernels can reach them.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_left

import numpy as np
from tests.simulated_gpu.driver.faults import Refused, Status
from tests.simulated_gpu.driver.order import Accesses, Intervals, intervals
from tests.simulated_gpu.ptx.faults import OutOfBounds
from tests.simulated_gpu.ptx.memory import (
    ALLOCATED,
    GAP,
    GLOBAL_BASE,
    UNALLOCATED,
    WRITTEN,
    Allocation,
    Array,
    Memory,
    words,
)

PAGE = 4096
SLACK = 1 << 16  # for gaps between small pieces


class DeviceMemory(Memory):
    """An arena whose pieces can be freed.

    Args:
        capacity: Bytes that the device has; page-locked memory does not count.

    Attributes:
        live: Bytes that are allocated, by "device" and "pinned".
    """

    def __init__(self, capacity: int) -> None:
        size = 2 * capacity + SLACK
        super().__init__(size)
        self.capacity = capacity
        self.live = {"device": 0, "pinned": 0}
        self._raw = np.zeros(size + PAGE, np.uint8)
        shift = -self._raw.ctypes.data % PAGE
        self.data = self._raw[shift : shift + size]
        self._views = words(self.data)
        self._base = int(self.data.ctypes.data)
        self._kinds: dict[int, str] = {}
        self._read, self._written = Noted(size), Noted(size)

    def take(self, size: int, kind: str) -> int:
        """Allocate memory of the "device", or "pinned" memory; return its address."""
        if kind == "device" and self.live[kind] + size > self.capacity:
            raise Refused(Status.OUT_OF_MEMORY, f"{size} bytes, {self.free_bytes} are free")
        offset = self._place(size)
        piece = Allocation("buffer", self, offset, (size,), np.dtype(np.uint8), filled=False)
        index = bisect_left(self._starts, offset)
        self._starts.insert(index, offset)
        self._allocations.insert(index, piece)
        self._end = max(self._end, offset + size)
        self.data[offset : offset + size] = 0xA5
        # The CPU may write pinned memory at any time, unseen.
        self.state[offset : offset + size] = ALLOCATED if kind == "device" else WRITTEN
        piece.filled = kind == "pinned"
        piece.name = f"{kind} memory at {offset:#x}"
        self._kinds[offset] = kind
        self.live[kind] += size
        return offset + (GLOBAL_BASE if kind == "device" else self._base)

    def give(self, address: int, kind: str) -> None:
        """Free a piece."""
        offset = self.offset(address)
        if offset is None or self._kinds.get(offset) != kind:
            raise Refused(Status.INVALID_VALUE, f"{address:#x} is no live {kind} memory")
        index = bisect_left(self._starts, offset)
        piece = self._allocations.pop(index)
        del self._starts[index], self._kinds[offset]
        self.state[offset : offset + piece.nbytes] = UNALLOCATED
        self.live[kind] -= piece.nbytes
        self.note(offset, piece.nbytes, writes=True)

    @property
    def free_bytes(self) -> int:
        """Bytes of the device that are not allocated."""
        return self.capacity - self.live["device"]

    def offset(self, address: int) -> int | None:
        """Return the place of an address in the arena, or None for other memory of the CPU."""
        for base in (GLOBAL_BASE, self._base):
            if base <= address < base + len(self.data):
                return address - base
        return None

    def piece(self, address: int) -> tuple[str, int, int] | None:
        """Return kind, address and size of the live piece that an address lies in."""
        offset = self.offset(address)
        if offset is None or self.state[offset] == UNALLOCATED:
            return None
        index = bisect_left(self._starts, offset + 1) - 1
        found = self._allocations[index]
        return self._kinds[found.offset], address - offset + found.offset, found.nbytes

    def bytes_at(self, address: int, size: int, *, write: bool) -> Array:
        """Return bytes for work that is no kernel, such as a copy or an engine; note the access.

        Raises:
            OutOfBounds: They are not all allocated.
        """
        offset = self.offset(address)
        if offset is None:
            return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        self.check(address, size)
        self.note(offset, size, reads=not write, writes=write)
        if write:
            self.state[offset : offset + size] = WRITTEN
        return self.data[offset : offset + size]

    def check(self, address: int, size: int) -> None:
        """Check that bytes of the arena are allocated."""
        offset = self.offset(address)
        if offset is not None and (self.state[offset : offset + size] == UNALLOCATED).any():
            where = self.describe(offset)
            raise OutOfBounds(f"{size} bytes at {address:#x} are not all allocated, {where}")

    def states_at(self, address: int, size: int) -> Array | None:
        """Return the states of bytes of the arena."""
        offset = self.offset(address)
        return None if offset is None else self.state[offset : offset + size]

    def note(self, offset: int, size: int, *, reads: bool = False, writes: bool = False) -> None:
        """Note an access to bytes that lie side by side."""
        for wanted, noted in ((reads, self._read), (writes, self._written)):
            if wanted and size:
                noted.pairs.append((offset, offset + size))

    def take_accesses(self) -> Accesses:
        """Return what was touched since the last call."""
        return Accesses(self._read.take(), self._written.take())

    def offsets(self, addresses: Array, size: int, *, reads: bool, writes: bool) -> Array:
        """See `Memory.offsets`; addresses of page-locked memory are accepted too."""
        try:
            found = super().offsets(addresses, size, reads=reads, writes=writes)
        except OutOfBounds:
            inside = addresses - np.uint64(self._base) < np.uint64(len(self.data))
            if not inside.any():
                raise
            moved = addresses + np.uint64(GLOBAL_BASE - self._base)
            addresses = np.where(inside, moved, addresses)
            found = super().offsets(addresses, size, reads=reads, writes=writes)
        if reads:
            self._read.mark(found, size)
        if writes:
            self._written.mark(found, size)
        return found

    def _place(self, size: int) -> int:
        """Return where a piece fits: behind all others, else in the first gap."""
        need = -(-size // GAP) * GAP
        if not self._allocations:
            self._end = 0
        fresh = -(-self._end // GAP) * GAP + GAP
        if fresh + need + GAP <= len(self.data):
            return fresh
        end = 0
        for piece in [*self._allocations, None]:
            start = -(-end // GAP) * GAP + GAP
            stop = len(self.data) if piece is None else piece.offset
            if start + need + GAP <= stop:
                return start
            end = piece.offset + piece.nbytes if piece else stop
        raise Refused(Status.OUT_OF_MEMORY, f"no {size} bytes in a row")


class Noted:
    """Bytes that were touched: single accesses in a bitmap, large ones as pairs.

    Args:
        capacity: Bytes of the arena.
    """

    def __init__(self, capacity: int) -> None:
        self.pairs: list[tuple[int, int]] = []
        self._marks = np.zeros(capacity, np.uint8)
        self._views = words(self._marks)
        self._low, self._high = capacity, 0

    def mark(self, offsets: Array, size: int) -> None:
        """Mark ``size`` bytes at each offset, which is a multiple of it."""
        self._low = min(self._low, int(offsets.min()))
        self._high = max(self._high, int(offsets.max()) + size)
        word = min(size, 8)
        view = self._views[word]
        full = view.dtype.type(int.from_bytes(b"\1" * word, "little"))
        start = offsets >> (word.bit_length() - 1)
        for i in range(size // word):
            view[start + i] = full

    def take(self) -> Intervals:
        """Return all bytes that are marked, and unmark them."""
        pairs, self.pairs = self.pairs, []
        if self._high:
            pairs += self._marked(self._low & ~7, -(-self._high // 8) * 8)
            self._low, self._high = len(self._marks), 0
        return intervals(pairs)

    def _marked(self, low: int, high: int) -> list[tuple[int, int]]:
        # Eight bytes at once first: most of the arena is either untouched or touched in full.
        wide = self._marks[low:high].view(np.uint64)
        touched = np.flatnonzero(wide)
        marks = wide[touched].view(np.uint8) != 0
        places = (low + 8 * touched[:, None] + np.arange(8)).reshape(-1)[marks]
        wide[touched] = 0
        breaks = np.flatnonzero(np.diff(places) != 1)
        starts = places[np.concatenate([[0], breaks + 1])]
        ends = places[np.concatenate([breaks, [-1]])] + 1
        return list(zip(starts.tolist(), ends.tolist(), strict=True))


def written(states: Array | None) -> bool:
    """Whether all bytes of the arena were written."""
    return states is None or bool((states == WRITTEN).all())
