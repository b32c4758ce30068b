# SPDX-License-Identifier: Apache-2.0
"""A place for one image in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.runtime.workspace import Workspace

if TYPE_CHECKING:
    from foveate.runtime.devices import Device, Event, Stream


class Slot:
    """Memory and streams of one image in flight.

    ``main`` carries the chain from the image to its detections; ``side`` carries what depends on
    the image only and may run beside it.
    """

    def __init__(self, device: Device) -> None:
        self.workspace = Workspace(device)
        self.main: Stream = device.stream()
        self.side: Stream = device.stream()

    def synchronize(self) -> None:
        """Block until both streams are done; raise the error that stopped one of them.

        Both are waited for in any case, so that the memory is free for the next image.
        """
        ends = [self.side.record(), self.main.record()]
        failures = []
        for end in ends:
            try:
                end.synchronize()
            except Exception as error:  # noqa: BLE001 - raised below, when all is still
                failures.append(error)
        if failures:
            raise failures[0]


class Turns:
    """Lets each stage serve one image after the other, in the order of the images.

    Stage s of an image then runs beside stage s - 1 of the next one, never beside itself, which
    bounds the memory that an engine needs for its own purposes.
    """

    def __init__(self) -> None:
        self._last: dict[str, Event] = {}

    def begin(self, stage: str, stream: Stream) -> None:
        """Let ``stream`` go on when the stage is done with the image before."""
        if stage in self._last:
            stream.wait(self._last[stage])

    def end(self, stage: str, stream: Stream) -> None:
        """Say that the work enqueued so far on ``stream`` ends the stage for its image."""
        self._last[stage] = stream.record()
