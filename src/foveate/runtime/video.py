# SPDX-License-Identifier: Apache-2.0
"""Videos, cameras and streams in a pipeline."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.errors import OptionError
from foveate.plain_text import counted
from foveate.video import Frames

if TYPE_CHECKING:
    from foveate.results.detections import Detections
    from foveate.runtime.pipeline import Pipeline
    from foveate.video.frame import Frame
    from foveate.video.frames import VideoSource

_MOST_AGES = 10_000  # so that memory does not grow with a camera that runs for days


class VideoResults:
    """An iterator of the frames of a video with their detections, in order.

    With the policy ``every``, frames go through ``Pipeline.stream``, several at a time. With
    ``latest`` there is one frame in flight, since a second one would only get older.

    Args:
        pipeline: The pipeline.
        source: What ``Frames`` takes, or such an object, which this one then owns.
        policy: Policy of the frames; see ``Frames``.

    Attributes:
        frames: The frames, with the numbers of those that were read, dropped and broken.
        done: Number of results so far.
        ages: Ages of the last 10,000 results in seconds, from the reading of a frame to the
            delivery of its result.

    Raises:
        InputError: The source cannot be opened.
        OptionError: There is no such policy, or the source already has one.
    """

    def __init__(
        self, pipeline: Pipeline, source: VideoSource, *, policy: str | None = None
    ) -> None:
        if isinstance(source, Frames):
            if policy is not None:
                raise OptionError("Frames already have a policy", remedy="pass it to Frames")
            self.frames = source
        else:
            self.frames = Frames(source, policy=policy)
        self.done = 0
        self.ages: deque[float] = deque(maxlen=_MOST_AGES)
        run = _one_by_one if self.frames.policy == "latest" else _streamed
        self._pairs = run(pipeline, self.frames)

    def __iter__(self) -> Iterator[tuple[Frame, Detections]]:
        return self

    def __next__(self) -> tuple[Frame, Detections]:
        try:
            frame, detections = next(self._pairs)
        except BaseException:  # the end, too
            self.frames.close()
            raise
        self.ages.append(time.monotonic() - frame.arrived)
        self.done += 1
        return frame, detections

    def summary(self) -> str:
        """Return the counts of frames, and percentiles of the age of a result, on one line."""
        frames = self.frames
        text = (
            f"{counted(frames.read, 'frame', 'frames')} read, {self.done} processed, {frames.dropped} dropped, "
            f"{frames.broken} broken"
        )
        if self.ages:
            median, high = np.percentile(self.ages, (50, 95))
            text += f"; age of a result: p50 {median * 1000:.0f} ms, p95 {high * 1000:.0f} ms"
        return text

    def close(self) -> None:
        """Release the source, and wait for frames in flight. Closing twice does nothing.

        If another thread iterates, its iteration ends after the frames in flight.
        """
        self.frames.close()
        with suppress(ValueError):  # another thread iterates
            self._pairs.close()

    def __enter__(self) -> VideoResults:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Pairs = Generator[tuple["Frame", "Detections"], None, None]


def _one_by_one(pipeline: Pipeline, frames: Frames) -> Pairs:
    for frame in frames:
        yield frame, pipeline(frame.image)


def _streamed(pipeline: Pipeline, frames: Frames) -> Pairs:
    in_flight: deque[Frame] = deque()

    def images() -> Iterator[Any]:
        for frame in frames:
            in_flight.append(frame)
            yield frame.image

    for detections in pipeline.stream(images()):
        yield in_flight.popleft(), detections
