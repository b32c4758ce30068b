# SPDX-License-Identifier: Apache-2.0
"""What an engine must offer. One file a kind of engine implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foveate.bundle.manifest import TensorSpec
    from foveate.runtime.devices import Buffer, Stream


class Engine(Protocol):
    """A stage that is ready to run. It may be enqueued for several images at a time."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Names, dtypes and shapes of the inputs; a name in a shape is a length that varies."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The same of the outputs."""

    def enqueue(
        self,
        bindings: Mapping[str, Buffer],
        stream: Stream,
        *,
        rows: Buffer | None = None,
        first: int = 0,
    ) -> None:
        """Enqueue one run.

        Args:
            bindings: A buffer for every input and output, of the final shape.
            stream: Orders the reading of inputs and the writing of outputs.
            rows: (1,) int32: only so many rows of the inputs and outputs whose first length varies
                matter. The engine may leave the other rows of its outputs as they are.
            first: How many of the rows that ``rows`` counts lie before those of ``bindings``.
        """

    def close(self) -> None:
        """Release what the engine holds."""
