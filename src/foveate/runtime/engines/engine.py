# SPDX-License-Identifier: Apache-2.0
"""The interface of engines; each kind of engine is implemented in one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from foveate.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from foveate.bundle.manifest import TensorSpec
    from foveate.runtime.devices import Buffer, Stream
    from foveate.runtime.sizes import Sizes


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

    def rows_for(self, rows: int) -> int:
        """Return the smallest number of rows that a run takes, at least ``rows``.

        It is ``rows`` itself if the engine takes any number, or none that is large enough.
        """

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

        Raises:
            NoPlanError: The engine was compiled for other shapes.
        """

    def close(self) -> None:
        """Release the resources of the engine. Closing twice does nothing."""


class NoPlanError(BackendError):
    """No compiled plan of a stage fits; the remedy is the command that compiles one.

    Attributes:
        max_side: Longer side of the working image in the manifest, in pixels.
    """

    max_side = 0

    def for_image(self, sizes: Sizes, k: int) -> BackendError:
        """Return the same error with a command that compiles plans for images of these sizes.

        Args:
            sizes: Sizes of the image.
            k: Number of windows that are refined.
        """
        # The levels follow from the working image, so that its size stands for all larger ones.
        width, height = sizes.working_width, sizes.working_height
        options = f" --image-size {width}x{height}"
        if max(width, height) > self.max_side:
            options += f" --max-side {max(width, height)}"
        remedy = f"{self.remedy}{options} --bucket {k}"
        return BackendError(self.what, file=self.file, remedy=remedy)
