# SPDX-License-Identifier: Apache-2.0
"""The steps for one image in flight, as programs that are launched for one image after the other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from foveate.runtime.devices.interop import GpuImage
from foveate.runtime.steps import Steps

if TYPE_CHECKING:
    from foveate.arrays import UInt8Array
    from foveate.runtime.devices import Event, Program
    from foveate.runtime.setup import Setup
    from foveate.runtime.sizes import Sizes

# What is found in an image: proposals, detections, or both ("findings").
Kind: TypeAlias = Literal["proposals", "detections", "findings"]


class Slot:
    """The memory, streams and programs of one image in flight, made for the sizes of the image.

    Addresses do not change while a slot lives, so that a GPU can replay its programs.

    Args:
        setup: What all slots of the pipeline have in common.
        sizes: Sizes of the image.

    Attributes:
        steps: The steps and their memory, which the slot owns.
    """

    def __init__(self, setup: Setup, sizes: Sizes) -> None:
        self.steps = Steps(setup, sizes)
        self._setup = setup
        self._programs: dict[Kind, Program] = {}
        self._end: Event | None = None
        self._kept: object = None  # what a copy that is enqueued needs

    @property
    def sizes(self) -> Sizes:
        """Sizes of the image."""
        return self.steps.sizes

    def start(self, image: UInt8Array | GpuImage, kind: Kind) -> None:
        """Enqueue all work for an image; when this returns, the caller may change the image.

        An image in the memory of a GPU must not change before the work is done.

        Args:
            image: (H, W, 3) uint8 RGB.
            kind: What to find.
        """
        try:
            self._send(image)
            self.launch(kind)
        except BaseException:
            self.abandon()
            raise

    def launch(self, kind: Kind) -> None:
        """Enqueue all work for the image in the slot; the first time, this takes memory."""
        if kind not in self._programs:
            self._programs[kind] = self._program(kind)
        self._end = self._programs[kind].launch()

    def synchronize(self) -> None:
        """Wait for the work and raise the error that stopped it."""
        assert self._end is not None
        self._end.synchronize()
        self._kept = None

    def _send(self, image: UInt8Array | GpuImage) -> None:
        target, stream = self.steps.image, self.steps.main
        if isinstance(image, GpuImage):
            self._kept = image.copy_to(target.buffer, stream)
        else:
            target.send(stream, image)

    def abandon(self) -> None:
        """Wait for all work, and ignore its errors: it uses the memory of the slot."""
        steps = self.steps
        for stream in (steps.main, steps.side, *steps.proposing.branches):
            try:
                stream.synchronize()
            except Exception as error:  # noqa: BLE001 - the first one was raised already
                # Its frames refer to the slot, whose memory would wait for the garbage collector.
                error.with_traceback(None)
        self._end = None  # it refers to the error

    def _program(self, kind: Kind) -> Program:
        # A program refers to the steps and not to the slot, so that no cycle of references delays
        # the release of the slot's memory.
        steps, engines = self.steps, self._setup.engines
        streams = [steps.main, *steps.proposing.branches]
        enqueue, used = steps.enqueue_proposals, [engines["propose"], engines["refine"]]
        if kind != "proposals":
            if steps.side is not steps.main:
                streams.insert(1, steps.side)
            enqueue = partial(steps.enqueue_detections, all_masks=kind == "findings")
            used = list(engines.values())
        capturable = all(engine.capturable for engine in used)
        return self._setup.device.program(streams, enqueue, capturable=capturable)
