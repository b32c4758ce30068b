# SPDX-License-Identifier: Apache-2.0
"""The interface of engines; each kind of engine is implemented in one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from foveate.bundle.manifest import TensorSpec
    from foveate.runtime.devices import Buffer, Stream


class Engine(Protocol):
    """A stage that is ready to run. Runs for several images may be enqueued at a time."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Names, dtypes and shapes of the inputs; a name in a shape stands for a varying length."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Names, dtypes and shapes of the outputs."""

    @property
    def capturable(self) -> bool:
        """Whether a run can be recorded in a CUDA graph."""

    @property
    def rows_at_once(self) -> int | None:
        """Number of rows per run that suits the engine, or None if all rows should go in one run."""

    def bind(
        self,
        bindings: Mapping[str, Buffer],
        stream: Stream,
        *,
        rows: Buffer | None = None,
        first: int = 0,
    ) -> Callable[[], None]:
        """Prepare runs on the same buffers and the same stream.

        Args:
            bindings: Buffer of every input and output, by name, in its final shape.
            stream: Stream that orders the reading of inputs and the writing of outputs.
            rows: (1,) int32 number of rows that exist in the inputs and outputs whose first length
                varies. The engine may leave the other rows of its outputs undefined.
            first: Index of the first row of ``bindings`` among those that ``rows`` counts.

        Returns:
            A function that enqueues one run. It owns what the engine prepared for it.
        """

    def bind_bytes(self, bindings: Mapping[str, Buffer]) -> int:
        """Return the number of bytes on the device that ``bind`` takes for such buffers."""

    def close(self) -> None:
        """Release the resources of the engine. Closing twice does nothing."""
