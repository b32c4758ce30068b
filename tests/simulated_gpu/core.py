# SPDX-License-Identifier: Apache-2.0
"""The names of ``cuda.core`` that our device layer uses, for drivers that need no GPU.

A subclass of :class:`SimulatedCore` supplies memory, modules and launches. All work is done at once.
Names are those of the real package, and no others; a test looks them up there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol


class CoreBuffer(Protocol):
    """Bytes of the simulated GPU or of the host."""

    handle: int
    size: int

    def copy_from(self, source: Any, *, stream: Stream) -> None:
        """Copy as many bytes."""


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

    def __init__(
        self, number: int, architecture: str, allocate: Callable[[int], CoreBuffer]
    ) -> None:
        if number != 0:
            raise ValueError(f"device_id must be 0, got {number}")
        self.arch = architecture
        self._allocate = allocate

    def set_current(self) -> None:
        """It is the only one."""

    def sync(self) -> None:
        """Nothing is ever pending."""

    def create_stream(self, *, options: StreamOptions) -> Stream:
        assert not options.nonblocking
        return Stream()

    def allocate(self, size: int, *, stream: Stream) -> CoreBuffer:
        assert isinstance(stream, Stream)
        return self._allocate(size)


class SimulatedCore(SimpleNamespace):
    """A module that stands for ``cuda.core``.

    Args:
        architecture: Compute capability as "75".
        buffer: The class ``Buffer``, of which ``from_handle`` is called.
        object_code: The class ``ObjectCode``.
    """

    def __init__(self, architecture: str, *, buffer: Any, object_code: Any) -> None:
        super().__init__(
            Device=lambda number: Device(number, architecture, self.allocate),
            Buffer=buffer,
            ObjectCode=object_code,
            LaunchConfig=LaunchConfig,
            StreamOptions=StreamOptions,
            EventOptions=EventOptions,
            LEGACY_DEFAULT_STREAM=Stream(),
        )

    def allocate(self, size: int) -> CoreBuffer:
        """Return memory whose content is poisoned."""
        raise NotImplementedError

    def launch(self, stream: Stream, config: LaunchConfig, kernel: Any, *arguments: Any) -> None:
        """Run a kernel to its end."""
        raise NotImplementedError


def public_names() -> dict[str, Sequence[str]]:
    """Return what our device layer may use of each class, by the name of the class."""
    classes = {"Device": Device, "Stream": Stream, "Event": Event}
    names = {n: [m for m in dir(c) if not m.startswith("_")] for n, c in classes.items()}
    return {
        **names,
        "Device": [*names["Device"], "arch"],
        "Buffer": ["copy_from", "handle", "size", "from_handle"],
        "ObjectCode": ["from_ptx", "from_cubin", "get_kernel"],
        "LaunchConfig": list(LaunchConfig.__dataclass_fields__),
        "StreamOptions": list(StreamOptions.__dataclass_fields__),
        "EventOptions": list(EventOptions.__dataclass_fields__),
    }
