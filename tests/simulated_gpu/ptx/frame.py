# SPDX-License-Identifier: Apache-2.0
"""The registers of the threads that run together, and the part of them that is active.

NOTE: A register is an array of unsigned integers (predicates: booleans) of shape (threads,), or
(1,) where all threads hold one value, which numpy broadcasts; so what is uniform costs nothing. A
frame is a set of active threads with the registers they use, gathered once; when the set changes,
what is still needed is scattered back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from tests.simulated_gpu.ptx.memory import Array

if TYPE_CHECKING:
    from tests.simulated_gpu.ptx.batch import Batch


class Registers:
    """Registers of `threads` threads; `partial` marks those with a value where not all have one."""

    def __init__(self, threads: int, dtypes: dict[str, np.dtype[Any]]) -> None:
        self.threads = threads
        self.dtypes = dtypes
        self.values: dict[str, Array] = {}
        self.partial: dict[str, Array] = {}

    def scatter(self, name: str, lanes: Array, value: Array, defined: Array | None) -> None:
        """Write a register of some threads."""
        old = self.values.get(name)
        fresh = np.empty(self.threads, self.dtypes[name])
        mask = self.partial.get(name)
        if old is None:
            fresh[...] = 0
            mask = np.zeros(self.threads, bool)
        else:
            fresh[...] = old
            mask = None if mask is None else mask.copy()
        if mask is None and defined is not None:
            mask = np.ones(self.threads, bool)
        fresh[lanes] = value
        self.values[name] = fresh
        if mask is not None:
            mask[lanes] = True if defined is None else defined
            if mask.all():
                self.partial.pop(name, None)
            else:
                self.partial[name] = mask


class Frame:
    """Active threads.

    Args:
        batch: What runs together.
        lanes: Numbers of the active threads, (active,), ascending; None for all.
    """

    def __init__(self, batch: Batch, lanes: Array | None) -> None:
        self.batch = batch
        self.partial_lanes = lanes
        self.lanes = batch.all_lanes if lanes is None else lanes
        self.count = len(self.lanes)
        self.warps = batch.warp_of[self.lanes]
        self.warp_count = 1 + int(np.count_nonzero(self.warps[1:] != self.warps[:-1]))
        # The registers themselves if all threads are active, otherwise gathered copies.
        self.values = batch.registers.values if lanes is None else {}
        self.poison: dict[str, Array] = {}
        self._written: set[str] = set()

    def enter(self, uses: Iterable[str], defines: set[str]) -> None:
        """Prepare the registers that a block uses, and note those without a value."""
        registers, lanes = self.batch.registers, self.partial_lanes
        for name in uses:
            if name in self.values:
                unknown = lanes is None and name not in self._written and name not in self.poison
                if unknown and name in registers.partial:
                    self.poison[name] = registers.partial[name]
                continue
            value = registers.values.get(name)
            if value is None:
                self.values[name] = np.zeros(1, registers.dtypes[name])
                self.poison[name] = np.zeros(1, bool)
                continue
            self.values[name] = value if len(value) == 1 else value[lanes]
            defined = registers.partial.get(name)
            if defined is not None and not defined[lanes].all():
                self.poison[name] = defined[lanes]
        self._written |= defines

    def leave(self, live: Iterable[str]) -> None:
        """Write back the registers that are still needed."""
        registers = self.batch.registers
        if self.partial_lanes is None:
            for name in self._written:
                registers.partial.pop(name, None)
            for name, mask in self.poison.items():
                registers.partial[name] = np.broadcast_to(mask, (registers.threads,))
            return
        for name in live:
            if name in self._written and name in self.values:
                known = self.poison.get(name)
                registers.scatter(name, self.partial_lanes, self.values[name], known)

    def spread(self, value: Array) -> Array:
        """Return a value with one element for each active thread."""
        return value if len(value) == self.count else np.broadcast_to(value, (self.count,))
