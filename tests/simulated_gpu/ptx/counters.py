# SPDX-License-Identifier: Apache-2.0
"""Counts of a launch: barriers, and traffic with global memory in sectors.

A request is one access of one warp; a sector is 32 bytes. The ideal of a request is the number of
sectors that would hold its distinct bytes if they lay side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tests.simulated_gpu.ptx.frame import Frame
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.parser import Instruction

SECTOR = 32


@dataclass
class Traffic:
    """Requests of warps, the sectors they touched, and the bytes their threads requested."""

    requests: int = 0
    sectors: int = 0
    ideal_sectors: int = 0
    bytes: int = 0

    @property
    def excess(self) -> float:
        """Sectors over their ideal; 1 if nothing was touched."""
        return self.sectors / self.ideal_sectors if self.ideal_sectors else 1.0


class Counters:
    """Counts of one launch.

    Args:
        capacity: Bytes of global memory.
    """

    def __init__(self, capacity: int) -> None:
        self.loads = Traffic()
        self.stores = Traffic()
        self.atomics = Traffic()
        self.barriers = 0
        self._read = np.zeros(capacity // SECTOR, bool)
        self._written = np.zeros(capacity // SECTOR, bool)
        self._not_coherent = np.zeros(capacity // SECTOR, bool)

    @property
    def bytes_moved(self) -> int:
        """Bytes of all sectors that warps requested."""
        return SECTOR * (self.loads.sectors + self.stores.sectors)

    @property
    def bytes_read(self) -> int:
        """Bytes of the different sectors that were read: what DRAM moves if the L2 holds all."""
        return int(np.count_nonzero(self._read)) * SECTOR

    @property
    def bytes_written(self) -> int:
        """Bytes of the different sectors that were written."""
        return int(np.count_nonzero(self._written)) * SECTOR

    def stale(self) -> int | None:
        """Byte of the arena that was read as constant (`ld.global.nc`) and written as well."""
        both = self._not_coherent & self._written
        return int(np.argmax(both)) * SECTOR if both.any() else None

    def request(
        self, kind: str, frame: Frame, offsets: Array, size: int, instruction: Instruction
    ) -> None:
        """Count an access to global memory: `offsets` (1,) or (lanes,) in bytes."""
        traffic = {"load": self.loads, "store": self.stores}.get(kind, self.atomics)
        if kind != "store":
            self._touch(self._read, offsets, size)
        if kind != "load":
            self._touch(self._written, offsets, size)
        if "nc" in instruction.suffixes:
            self._touch(self._not_coherent, offsets, size)
        requests, sectors, ideal = _sectors(frame, offsets, size)
        traffic.requests += requests
        traffic.sectors += sectors
        traffic.ideal_sectors += ideal
        traffic.bytes += frame.count * size

    @staticmethod
    def _touch(touched: Array, offsets: Array, size: int) -> None:
        first = offsets // SECTOR
        touched[first] = True
        assert size <= SECTOR  # aligned, so it lies in one sector


def _sectors(frame: Frame, offsets: Array, size: int) -> tuple[int, int, int]:
    """Return requests, sectors and ideal sectors."""
    if len(offsets) == 1:
        return frame.warp_count, frame.warp_count, frame.warp_count
    warps = frame.warps
    steps = np.diff(offsets)
    changes = warps[1:] != warps[:-1]
    if ((steps < 0) & ~changes).any():
        order = np.lexsort((offsets, warps))
        offsets, warps = offsets[order], warps[order]
        steps, changes = np.diff(offsets), warps[1:] != warps[:-1]
    sector = offsets // SECTOR
    sectors = 1 + int(np.count_nonzero((sector[1:] != sector[:-1]) | changes))
    fresh = np.concatenate([[True], (steps != 0) | changes])
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    distinct = np.add.reduceat(fresh, starts, dtype=np.int64) * size
    return len(starts), sectors, int((-(-distinct // SECTOR)).sum())
