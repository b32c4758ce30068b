# SPDX-License-Identifier: Apache-2.0
"""What stands for ``cuda.core`` on a machine without a GPU.

Memory is an arena whose accesses are checked, loading a module parses its PTX, a launch interprets
it. It has those names of the real package that our device layer uses, and no others; a test looks
them up there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from tests.simulated_gpu.ptx.launch import Kernel, launch
from tests.simulated_gpu.ptx.memory import GLOBAL_BASE, WRITTEN, Array, Memory
from tests.simulated_gpu.ptx.parser import parse

__all__ = ["SimulatedDriver"]


class SimulatedDriver(SimpleNamespace):
    """The names of ``cuda.core``, bound to one arena.

    Args:
        architecture: As "75".
    """

    def __init__(self, architecture: str) -> None:
        memory = Memory(1 << 27)
        super().__init__(
            memory=memory,
            launched=[],
            Device=lambda number: Device(number, architecture, memory),
            Buffer=HostOrDevice(memory),
            ObjectCode=ObjectCode,
            LaunchConfig=LaunchConfig,
            StreamOptions=StreamOptions,
            EventOptions=EventOptions,
            LEGACY_DEFAULT_STREAM=Stream(),
            launch=self._launch,
        )

    def _launch(self, stream: Stream, config: LaunchConfig, kernel: Any, *arguments: Any) -> None:
        assert isinstance(stream, Stream)
        module, name = kernel
        self.launched.append(name)
        program = module(name, config.shmem_size)
        launch(program, self.memory, config.grid, config.block, list(arguments))


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shmem_size: int


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    nonblocking: bool


@dataclass(frozen=True, kw_only=True)
class EventOptions:
    timing_enabled: bool


class Event:
    is_done = True

    def sync(self) -> None:
        """Nothing is ever pending."""

    def __sub__(self, earlier: Event) -> float:
        return 0.0


class Stream:
    handle = 7

    def record(self, *, options: EventOptions | None = None) -> Event:
        assert options is None or isinstance(options, EventOptions)
        return Event()

    def wait(self, event: Event) -> None:
        assert isinstance(event, Event)

    def sync(self) -> None:
        """Nothing is ever pending."""


class Device:
    """One GPU; there is no other."""

    def __init__(self, number: int, architecture: str, memory: Memory) -> None:
        if number != 0:
            raise ValueError(f"device_id must be 0, got {number}")
        self.arch = architecture
        self._memory = memory

    def set_current(self) -> None:
        """It is the only one."""

    def sync(self) -> None:
        """Nothing is ever pending."""

    def create_stream(self, *, options: StreamOptions) -> Stream:
        assert not options.nonblocking
        return Stream()

    def allocate(self, size: int, *, stream: Stream) -> Buffer:
        assert isinstance(stream, Stream)
        return Buffer(self._memory, self._memory.empty((size,), "u1", "buffer").address, size, None)


class Buffer:
    """Bytes of the arena, or of the host."""

    def __init__(self, memory: Memory, handle: int, size: int, owner: Any) -> None:
        self._memory, self.handle, self.size, self._owner = memory, handle, size, owner

    def copy_from(self, source: Buffer, *, stream: Stream) -> None:
        assert source.size == self.size
        assert isinstance(stream, Stream)
        bytes_of, _ = source._view()
        target, state = self._view()
        target[...] = bytes_of
        if state is not None:
            state[...] = WRITTEN

    def _view(self) -> tuple[Array, Array | None]:
        """The bytes, and for those of the arena their state."""
        if self.handle >= GLOBAL_BASE and self.handle < GLOBAL_BASE + len(self._memory.data):
            start = self.handle - GLOBAL_BASE
            part = slice(start, start + self.size)
            return self._memory.data[part], self._memory.state[part]
        raw = (ctypes.c_uint8 * self.size).from_address(self.handle)
        return np.ctypeslib.as_array(raw), None


class HostOrDevice:
    """The class ``Buffer``, as far as it is called."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def from_handle(self, ptr: int, size: int, *, owner: Any) -> Buffer:
        return Buffer(self._memory, ptr, size, owner)


class ObjectCode:
    """A module of PTX; a cubin cannot be interpreted."""

    def __init__(self, text: str) -> None:
        module = parse(text)
        self._kernel = cache(lambda name, shared: Kernel(module, name, shared))

    @classmethod
    def from_ptx(cls, code: bytes, *, name: str) -> ObjectCode:
        assert name
        return cls(code.decode())

    @classmethod
    def from_cubin(cls, code: bytes, *, name: str) -> ObjectCode:
        raise AssertionError(f"{name}: {len(code)} bytes of cubin cannot be interpreted")

    def get_kernel(self, name: str) -> tuple[Any, str]:
        return self._kernel, name


def public_names() -> dict[str, Sequence[str]]:
    """Return what our device layer may use of each class, by the name of the class."""
    classes = {"Device": Device, "Stream": Stream, "Event": Event, "Buffer": Buffer}
    names = {n: [m for m in dir(c) if not m.startswith("_")] for n, c in classes.items()}
    return {
        **names,
        "Device": [*names["Device"], "arch"],
        "Buffer": [*names["Buffer"], "handle", "size", "from_handle"],
        "ObjectCode": ["from_ptx", "from_cubin", "get_kernel"],
        "LaunchConfig": list(LaunchConfig.__dataclass_fields__),
        "StreamOptions": list(StreamOptions.__dataclass_fields__),
        "EventOptions": list(EventOptions.__dataclass_fields__),
    }
