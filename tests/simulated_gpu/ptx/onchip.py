# SPDX-License-Identifier: Apache-2.0
"""Shared memory of the blocks that run together, with the detector of races.

NOTE: Two accesses of different threads to one place of shared memory race if one of them writes
and no barrier of the block, nor of the warp they share, lies between. Each barrier starts an epoch;
each place remembers its last writer and its readers of this epoch. Threads that write the same
value as lies there already do no harm and are allowed. Atomics do not race with each other.
"""

from __future__ import annotations

import numpy as np
from tests.simulated_gpu.ptx.faults import Misaligned, OutOfBounds, Race, Uninitialized
from tests.simulated_gpu.ptx.memory import Array, words

NOBODY, MANY, ATOMIC = -1, -2, -3


class SharedMemory:
    """Shared memory of `blocks` blocks of `threads` threads.

    Args:
        blocks: How many run together.
        threads: Of a block.
        size: Bytes a block.
        grain: Smallest access in bytes; what is remembered is remembered for each grain.
    """

    def __init__(self, blocks: int, threads: int, size: int, grain: int) -> None:
        self.size = size
        self.stride = -(-size // 16) * 16
        self.data = np.full(blocks * self.stride, 0xA5, np.uint8)
        self._written = np.zeros(blocks * self.stride, bool)
        self._views = words(self.data)
        self._grain_bits = grain.bit_length() - 1
        grains = len(self.data) // grain
        self._writer = np.full(grains, NOBODY, np.int32)
        self._write_time = np.zeros(grains, np.int32)
        self._reader = np.full(grains, NOBODY, np.int32)
        self._reader_warp = np.full(grains, NOBODY, np.int32)
        self._read_time = np.zeros(grains, np.int32)
        self._threads = threads
        # Time only grows; accesses of one block between two of its barriers have times >= its epoch.
        self._now = 0
        self._block_epoch = np.zeros(blocks, np.int32)
        self._warp_epoch = np.zeros(blocks * -(-threads // 32), np.int32)

    def view(self, itemsize: int) -> Array:
        """All bytes as unsigned integers."""
        return self._views[itemsize]

    def offsets(
        self, block: Array, addresses: Array, size: int, *, reads: bool, writes: bool
    ) -> Array:
        """Check an access; return byte offsets into :meth:`view`, int64 (lanes,)."""
        at = addresses.astype(np.int64)
        outside = (at < 0) | (at + size > self.size)
        if outside.any():
            self._raise_outside(at, outside, size, reads)
        if (at & (size - 1)).any():
            position = int(np.argmax((at & (size - 1)) != 0))
            raise Misaligned(
                f"accesses {size} bytes at shared address {int(at[position])}, "
                f"no multiple of {size}",
                position,
            )
        offsets: Array = block * self.stride + at
        for byte in range(size):
            if reads:
                stale = ~self._written[offsets + byte]
                if stale.any():
                    position = int(np.argmax(stale))
                    raise Uninitialized(
                        f"reads {size} bytes at shared address "
                        f"{int(np.broadcast_to(at, stale.shape)[position])} that nobody wrote",
                        position,
                    )
            if writes:
                self._written[offsets + byte] = True
        return offsets

    def _raise_outside(self, at: Array, outside: Array, size: int, reads: bool) -> None:
        position = int(np.argmax(outside))
        verb = "reads" if reads else "writes"
        raise OutOfBounds(
            f"{verb} {size} bytes at shared address {int(at[position])}, "
            f"outside of its {self.size} bytes",
            position,
        )

    def barrier(self, blocks: Array) -> None:
        """Record that all threads of these blocks have synchronized."""
        self._now += 1
        self._block_epoch[blocks] = self._now

    def warp_barrier(self, warps: Array) -> None:
        """Record that the threads of these warps have synchronized."""
        self._now += 1
        self._warp_epoch[warps] = self._now

    def watch(
        self,
        offsets: Array,
        size: int,
        lanes: Array,
        warps: Array,
        *,
        reads: bool,
        same: Array | None = None,
        atomic: bool = False,
    ) -> None:
        """Check an access against what other threads did, and remember it.

        Args:
            offsets: (lanes,) as :meth:`offsets` returned them.
            size: Bytes a lane.
            lanes: (lanes,) number of each thread among all that run together.
            warps: (lanes,) number of its warp.
            reads: Whether it only reads.
            same: For writes, where the value is what lies there already.
            atomic: Whether it reads and writes in one.

        Raises:
            Race: Another thread's access meets this one.
        """
        blocks = lanes // self._threads
        first = offsets >> self._grain_bits
        for step in range(max(size >> self._grain_bits, 1)):
            places = first + step
            self._check_writer(places, lanes, warps, blocks, atomic, same)
            if reads:
                self._remember_read(places, lanes, warps, blocks)
                continue
            self._check_readers(places, lanes, warps, blocks, same)
            if not atomic:
                self._check_each_other(places, offsets, lanes)
            self._writer[places] = ATOMIC if atomic else lanes
            self._write_time[places] = self._now

    def _check_writer(
        self,
        places: Array,
        lanes: Array,
        warps: Array,
        blocks: Array,
        atomic: bool,
        same: Array | None,
    ) -> None:
        writer, when = self._writer[places], self._write_time[places]
        races = (writer != NOBODY) & (writer != lanes) & (when >= self._block_epoch[blocks])
        if not races.any():
            return
        if atomic:
            races &= writer != ATOMIC
        if same is not None:
            races &= ~same
        met = (when < self._warp_epoch[warps]) & (self._warp_of(writer) == warps)
        self._raise_race(races & ~met, writer, "wrote")

    def _check_readers(
        self, places: Array, lanes: Array, warps: Array, blocks: Array, same: Array | None
    ) -> None:
        reader, when = self._reader[places], self._read_time[places]
        races = (reader != NOBODY) & (reader != lanes) & (when >= self._block_epoch[blocks])
        if not races.any():
            return
        if same is not None:
            races &= ~same
        met = (when < self._warp_epoch[warps]) & (self._reader_warp[places] == warps)
        self._raise_race(races & ~met, reader, "read")

    def _check_each_other(self, places: Array, offsets: Array, lanes: Array) -> None:
        """Find lanes of one instruction that write different values to one place."""
        self._writer[places] = lanes
        lost = self._writer[places] != lanes
        if lost.any():
            other = self._writer[places]
            self._raise_race(lost & self._differs(offsets, lanes, other), other, "wrote")

    def _differs(self, offsets: Array, lanes: Array, other: Array) -> Array:
        values = self._pending
        order = np.argsort(lanes, kind="stable")
        rival = order[np.searchsorted(lanes[order], other)]
        differs = (values != values[rival]).any(axis=1) | (offsets != offsets[rival])
        return np.asarray(differs)

    def will_write(self, values: Array) -> None:
        """Set the values (lanes, elements) that the next :meth:`watch` writes."""
        self._pending = values

    def _remember_read(self, places: Array, lanes: Array, warps: Array, blocks: Array) -> None:
        fresh = (self._reader[places] == NOBODY) | (
            self._read_time[places] < self._block_epoch[blocks]
        )
        old_reader, old_warp = self._reader[places].copy(), self._reader_warp[places].copy()
        self._reader[places] = lanes
        self._reader_warp[places] = warps
        # Where several lanes read one place, or another thread read it before.
        several = (self._reader[places] != lanes) | (~fresh & (old_reader != lanes))
        self._reader[places[several]] = MANY
        warps_differ = (self._reader_warp[places] != warps) | (~fresh & (old_warp != warps))
        self._reader_warp[places[warps_differ]] = MANY
        self._read_time[places] = self._now

    def _warp_of(self, writer: Array) -> Array:
        block, thread = writer // self._threads, writer % self._threads
        return np.where(writer >= 0, block * -(-self._threads // 32) + thread // 32, NOBODY)

    def _raise_race(self, races: Array, other: Array, verb: str) -> None:
        if races.any():
            position = int(np.argmax(races))
            who = int(other[position])
            thread = f"thread {who % self._threads}" if who >= 0 else "other threads"
            raise Race(
                f"meets {thread} of its block, which {verb} the same place of shared memory, "
                "without a barrier between them",
                position,
            )
