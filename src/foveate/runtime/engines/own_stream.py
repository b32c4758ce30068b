# SPDX-License-Identifier: Apache-2.0
"""Engines of libraries that work on a stream of their own, such as ONNX Runtime and PyTorch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from foveate.bundle.manifest import TensorSpec
    from foveate.runtime.devices import Buffer, Stream


class OwnStreamEngine(ABC):
    """An engine with a stream of its own for all runs, each of which is ordered in its image's stream.

    The library of such an engine binds its weights and its memory to a stream, or keeps memory per
    stream. With a single stream it needs them only once for all images in flight. Two images never
    run the same stage at a time; different stages may run at a time.

    All rows are computed, also those that do not exist: they are never read, and a GPU would have
    to wait for their number.

    Args:
        inputs: Names, dtypes and shapes of the inputs.
        outputs: Names, dtypes and shapes of the outputs.
        stream: Stream for all runs, which the engine owns.
    """

    capturable = False  # such a library may allocate memory in a run
    rows_at_once = None

    def __init__(
        self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], stream: Stream
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._stream = stream

    @abstractmethod
    def prepare(self, bindings: Mapping[str, Buffer]) -> Callable[[], None]:
        """Return a function that enqueues one run on the engine's stream.

        The buffers live as long as the function.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the resources of the engine; enqueued runs must be done."""

    def rows_for(self, rows: int) -> int:
        """Return ``rows``, since a run takes any number."""
        return rows

    def bind(
        self,
        bindings: Mapping[str, Buffer],
        stream: Stream,
        *,
        rows: Buffer | None = None,
        first: int = 0,
    ) -> Callable[[], None]:
        """Prepare runs on the same buffers; see :class:`foveate.runtime.engines.Engine`.

        Only one of the functions that an engine returned may be called at a time.
        """
        del rows, first  # see the class
        return partial(self._enqueue, stream, self.prepare(bindings), dict(bindings))

    def _enqueue(self, stream: Stream, run: Callable[[], None], bindings: object) -> None:
        del bindings  # held only so that their memory lives as long as the run
        self._stream.wait(stream.record())
        try:
            run()
        finally:  # a part of the run may be enqueued, and uses the memory of the image
            stream.wait(self._stream.record())
