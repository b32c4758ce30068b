# SPDX-License-Identifier: Apache-2.0
"""The memory that a slot will take, computed before any is allocated."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from foveate.runtime.slot import Kind, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from foveate.arrays import Array
    from foveate.bundle.manifest import TensorSpec
    from foveate.kernels.op import Op
    from foveate.runtime.devices import Buffer, Stream
    from foveate.runtime.engines import Engine
    from foveate.runtime.setup import Setup
    from foveate.runtime.sizes import Sizes

_ALIGNMENT = 256  # bytes, at which a GPU begins every allocation


def slot_bytes(setup: Setup, sizes: Sizes) -> int:
    """Return the number of bytes on the device that a slot takes, with its engines.

    A slot is made, and its programs are run, on a device that only counts.

    Raises:
        OptionError: A size is larger than the kernels can handle.
    """
    device = _CountingDevice()
    engines = {name: _CountingEngine(device, engine) for name, engine in setup.engines.items()}
    kind: Kind = "detections" if "classify" in engines else "proposals"
    Slot(replace(setup, device=device, engines=engines), sizes).launch(kind)
    return device.bytes


class _CountedBuffer:
    """A buffer without memory, at the address 0."""

    address = 0

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        self.shape = shape
        self.dtype = dtype

    def view(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> _CountedBuffer:
        return _CountedBuffer(shape, dtype)

    def part(self, start: int, stop: int) -> _CountedBuffer:
        return _CountedBuffer((min(stop, self.shape[0]) - start, *self.shape[1:]), self.dtype)


class _CountedMirror:
    def __init__(self, buffer: _CountedBuffer) -> None:
        self.buffer = buffer
        self.array: Array = np.empty(0, buffer.dtype)  # nothing reads it

    def send(self, stream: Stream, content: Array | None = None) -> None:
        """Do nothing."""

    def fetch(self, stream: Stream) -> None:
        """Do nothing."""


class _CountingStream:
    """A stream, which is its own event."""

    def record(self) -> _CountingStream:
        return self

    def wait(self, event: object) -> None:
        """Do nothing."""

    def synchronize(self) -> None:
        """Do nothing."""


class _CountingProgram:
    def __init__(self, enqueue: Callable[[], None]) -> None:
        self._enqueue = enqueue

    def launch(self) -> _CountingStream:
        self._enqueue()
        return _CountingStream()


class _CountingDevice:
    """A device, and the memory of its launches, that only counts what is allocated."""

    name = "counting"
    backends = ()

    def __init__(self) -> None:
        self.bytes = 0

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> _CountedBuffer:
        self.bytes += -(-prod(shape) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        return _CountedBuffer(shape, dtype)

    def mirror(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> _CountedMirror:
        return _CountedMirror(self.allocate(shape, dtype))

    def mapped(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> _CountedMirror:
        return _CountedMirror(_CountedBuffer(shape, dtype))  # it takes memory of the CPU only

    def stream(self) -> _CountingStream:
        return _CountingStream()

    def launch(
        self, op: Op, stream: Stream, *buffers: Buffer | Sequence[Buffer] | None, **numbers: object
    ) -> None:
        del stream
        assert op.launches is not None, f"{op.name} has no kernels"
        for _ in op.launches(self, *buffers, **numbers):
            pass

    def program(
        self, streams: Sequence[Stream], enqueue: Callable[[], None], *, capturable: bool
    ) -> _CountingProgram:
        del streams, capturable
        return _CountingProgram(enqueue)

    def empty(self, shape: tuple[int, ...], dtype: type[np.generic]) -> _CountedBuffer:
        return self.allocate(shape, np.dtype(dtype))

    def upload(self, array: Array) -> _CountedBuffer:
        return self.allocate(array.shape, array.dtype)

    def accept(self, image: object) -> None:
        """Do nothing."""

    def share(self, buffer: Buffer, owner: object) -> None:
        """Do nothing; no result is computed."""

    def spare_bytes(self) -> None:
        """Return None: nothing is allocated."""

    def close(self) -> None:
        """Do nothing."""


class _CountingEngine:
    """An engine that counts the memory of its runs."""

    def __init__(self, device: _CountingDevice, engine: Engine) -> None:
        self._device, self._engine = device, engine
        self._taken: dict[Stream, int] = {}
        self.inputs: tuple[TensorSpec, ...] = engine.inputs
        self.outputs: tuple[TensorSpec, ...] = engine.outputs
        self.capturable = engine.capturable
        self.rows_at_once = engine.rows_at_once

    def bind(
        self,
        bindings: Mapping[str, Buffer],
        stream: Stream,
        *,
        rows: Buffer | None = None,
        first: int = 0,
    ) -> Callable[[], None]:
        del rows, first
        need = self._engine.bind_bytes(bindings)
        if need > self._taken.get(stream, 0):
            self._device.bytes += need
            self._taken[stream] = need
        return lambda: None

    def rows_for(self, rows: int) -> int:
        return self._engine.rows_for(rows)

    def bind_bytes(self, bindings: Mapping[str, Buffer]) -> int:
        return self._engine.bind_bytes(bindings)

    def close(self) -> None:
        """Do nothing; the engine belongs to the pipeline."""
