# SPDX-License-Identifier: Apache-2.0
"""The time of each stage of an image."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from foveate.tracing.clock import SystemClock
from foveate.tracing.image_trace import stage_times
from foveate.tracing.recording import Recorder, record_pipeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from foveate.results.detections import Findings
    from foveate.runtime import Pipeline
    from foveate.runtime.images import Image
    from foveate.tracing.image_trace import ImageTrace


class TimedPipeline:
    """A pipeline that also returns the time of each stage. Several threads may share it.

    Args:
        pipeline: The pipeline, of which this takes ownership.

    Attributes:
        pipeline: A pipeline with the same engines whose work is recorded.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._recorder = Recorder(SystemClock())
        self.pipeline = record_pipeline(self._recorder, pipeline)

    def find(self, image: Image) -> tuple[Findings, dict[str, float]]:
        """Find the objects in an image; see :meth:`stream`."""
        return next(self.stream([image]))

    def stream(self, images: Iterable[Image]) -> Iterator[tuple[Findings, dict[str, float]]]:
        """Find the objects in each image, as ``Pipeline.stream`` does, with its errors.

        Returns:
            The findings of each image, and what ``stage_times`` returns of it.
        """
        traces: deque[ImageTrace] = deque()

        def recorded() -> Iterator[Image]:
            for image in images:
                traces.append(self._recorder.begin(0))
                yield image

        try:
            for findings in self.pipeline.stream(recorded(), with_proposals=True):
                yield findings, stage_times(traces.popleft())
        finally:
            self._recorder.end()
