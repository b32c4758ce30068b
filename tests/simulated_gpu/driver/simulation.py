# SPDX-License-Identifier: Apache-2.0
"""A simulated GPU: the state behind the driver's entry points, and what a test asks of it."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from tests.simulated_gpu.driver.faults import Fault, Faults, Refused, Status
from tests.simulated_gpu.driver.memory import DeviceMemory
from tests.simulated_gpu.driver.order import Conflict
from tests.simulated_gpu.driver.streams import Streams
from tests.simulated_gpu.driver.work import Run, Stream
from tests.simulated_gpu.ptx.counters import Counters

T = TypeVar("T")

PRIMARY = 0xC0DE00
"""Handle of the primary context; cuda-core keeps it for the life of the process."""

# Handles are never used again in a process: a late destructor must not hit another test's object.
_HANDLES = itertools.count(0x10000, 0x100)


class Call(NamedTuple):
    """A call of the driver: entry point, details and result."""

    name: str
    detail: str
    status: int


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A launch of a kernel, and what it did."""

    kernel: str
    counters: Counters


class Simulation:
    """A GPU that is simulated.

    Args:
        architecture: Architecture as "sm_75".
        seed: Seed of the order in which work runs; None: the order in which it was enqueued.
        capacity: Bytes of memory.
        run_kernels: Whether kernels are interpreted. Without, launches only count.
        backwards: See `tests.simulated_gpu.ptx.launch.launch`.

    Attributes:
        calls: All calls so far.
        launched: Launches of kernels that have run.
        unwritten: Copies to the CPU of bytes that nothing had written.
    """

    def __init__(
        self,
        architecture: str = "sm_75",
        *,
        seed: int | None = None,
        capacity: int = 1 << 27,
        run_kernels: bool = True,
        backwards: bool = False,
    ) -> None:
        self.architecture = architecture
        self.run_kernels = run_kernels
        self.backwards = backwards
        choose = (lambda _: 0) if seed is None else random.Random(seed).randrange
        self.memory = DeviceMemory(capacity)
        self.streams = Streams(self.memory, choose)
        self.calls: list[Call] = []
        self.launched: list[Launched] = []
        self.unwritten: list[str] = []
        self.faults = Faults()
        self.objects: dict[int, Any] = {}
        self.contexts: dict[int, int] = {}  # of live ones: times that they are retained
        self.lock = threading.RLock()
        self._current: dict[int, list[int]] = {}
        self._homes: dict[int, int] = {}  # contexts by the handles and addresses that are theirs

    # What a test asks ---------------------------------------------------------------------------
    def fail(self, status: int, entry: str | None = None, *, nth: int = 1) -> Fault:
        """Let the nth call from now of an entry point, or of any, return ``status``."""
        return self.faults.add(status, entry, nth)

    @property
    def conflicts(self) -> list[Conflict]:
        """Pairs of pieces of work that share bytes and that nothing orders, of work that has run."""
        return self.streams.order.conflicts

    @property
    def live_bytes(self) -> dict[str, int]:
        """Bytes that are allocated, by "device" and "pinned"."""
        return dict(self.memory.live)

    def count(self, kind: type) -> int:
        """Number of live objects of a class, such as `Stream`, `Event`, `Graph` or `Executable`."""
        return sum(isinstance(one, kind) for one in self.objects.values())

    def calls_since(self, start: int) -> Counter[str]:
        """Number of calls by name, from the one with index ``start``."""
        return Counter(call.name for call in self.calls[start:])

    def bytes_copied(self, start: int = 0) -> Counter[str]:
        """Bytes by way ("HtoD", "DtoH", "DtoD"), of the copies that ran, from the start-th task."""
        copied: Counter[str] = Counter()
        for task in self.streams.history[start:]:
            if task.kind == "copy":
                way, size = task.name.split()[:2]
                copied[way] += int(size)
        return copied

    def cpu_touches(self, address: int, size: int, *, write: bool) -> None:
        """Check an access of the CPU to pinned memory like a piece of work of the GPU."""
        offset = self.memory.offset(address)
        assert offset is not None, "the bytes do not lie in pinned memory"
        with self.lock:
            self.streams.run_now(
                "CPU",
                "access",
                lambda: self.memory.note(offset, size, reads=not write, writes=write),
            )

    def enqueue(self, stream: int, kind: str, name: str, run: Run) -> None:
        """Enqueue work that no entry point knows, such as an engine, on the stream of a handle."""
        with self.lock:
            self.streams.enqueue(self.stream(stream), kind, name, run)

    # What entry points need ---------------------------------------------------------------------
    def handle(self, thing: object) -> int:
        """Return a new handle for an object."""
        number = next(_HANDLES)
        self.objects[number] = thing
        self._homes[number] = self.current[-1] if self.current else 0
        return number

    def allocate(self, size: int, kind: str) -> int:
        """Return the address of new memory of the current context; see `DeviceMemory.take`."""
        address = self.memory.take(size, kind)
        self._homes[address] = self.current[-1]
        return address

    def create_context(self) -> int:
        """Return the handle of a new context."""
        number = next(_HANDLES)
        self.contexts[number] = 1
        return number

    def destroy_context(self, context: int) -> None:
        """Finish all work, and release what belongs to a context."""
        self.streams.drain()
        for home in [home for home, owner in self._homes.items() if owner == context]:
            del self._homes[home]
            thing = self.objects.pop(home, None)
            if isinstance(thing, Stream):
                self.streams.all.remove(thing)
            if (piece := self.memory.piece(home)) is not None and piece[1] == home:
                self.memory.give(home, piece[0])
        del self.contexts[context]

    def get(self, handle: int | None, kind: type[T]) -> T:
        """Return the object of a handle."""
        thing = self.objects.get(handle or 0)
        if not isinstance(thing, kind):
            raise Refused(Status.INVALID_HANDLE, f"{handle} is no live {kind.__name__}")
        return thing

    def pop(self, handle: int | None, kind: type[T]) -> T:
        """Return the object of a handle that is destroyed."""
        thing = self.get(handle, kind)
        del self.objects[handle or 0]
        return thing

    def stream(self, handle: int | None) -> Stream:
        """Return a stream; 0 and 1 are the legacy stream."""
        if handle in (None, 0, 1):
            return self.streams.legacy
        if handle == 2:
            raise Refused(Status.INVALID_HANDLE, "the per-thread default stream is not simulated")
        return self.get(handle, Stream)

    @property
    def current(self) -> list[int]:
        """The stack of contexts of this thread; the last one is current."""
        return self._current.setdefault(threading.get_ident(), [])

    def ran(self, kernel: str, counters: Counters) -> None:
        """Note a launch that has run."""
        self.launched.append(Launched(kernel=kernel, counters=counters))
