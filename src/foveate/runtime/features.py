# SPDX-License-Identifier: Apache-2.0
"""The steps to the maps that classification reads, and their memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.runtime.setup import channels_of

if TYPE_CHECKING:
    from foveate.runtime.devices import Buffer, Stream
    from foveate.runtime.proposing import Proposing
    from foveate.runtime.setup import Setup
    from foveate.runtime.sizes import FeaturesSizes, Sizes


class Features:
    """The steps to the maps that classification reads, for images of the same sizes.

    The classifier has a trunk of its own, which reads the image, or it continues the trunk of the
    proposals from the maps of one level of the pyramid.

    Args:
        setup: What all slots of the pipeline have in common.
        sizes: Sizes of the images.
        image: (h, w, 3) uint8 RGB image at working size.
        proposing: The steps that write the maps of the levels.
        side: Stream that carries the steps.

    Attributes:
        sizes: Sizes of the image on the canvas of the maps.
        maps: Maps by name.
    """

    def __init__(
        self, setup: Setup, sizes: Sizes, image: Buffer, proposing: Proposing, side: Stream
    ) -> None:
        assert sizes.features is not None
        self.sizes: FeaturesSizes = sizes.features
        self._setup, self._image, self._side = setup, image, side
        self._canvases: list[Buffer] = []
        shared: dict[str, Buffer] = {}
        if self.sizes.level is None:
            self._canvases = [setup.image_canvas("features", self.sizes)]
            inputs = {"image": self._canvases[0]}
        else:
            shared = proposing.maps(self.sizes.level)
            names = [spec.name for spec in setup.manifest.stages["features"].inputs]
            inputs = {name: shared[name] for name in names}
        own = self._allocate_maps()
        self.maps = shared | own
        self._run = setup.engines["features"].bind({**inputs, **own}, side)

    def enqueue(self, stream: Stream) -> None:
        """Enqueue all steps behind the work so far on a stream, which writes what they read."""
        self._side.wait(stream.record())
        if self._canvases:
            sizes, border = (self.sizes,), self.sizes.border
            self._setup.letterbox(self._side, self._image, self._canvases, sizes, border=border)
        self._run()

    def _allocate_maps(self) -> dict[str, Buffer]:
        """Allocate the outputs of features; a side that a stride does not divide is rounded down."""
        height, width = self.sizes.canvas_height, self.sizes.canvas_width
        return {
            spec.name: self._setup.tensor(
                spec, 1, channels_of(spec), height // spec.stride, width // spec.stride
            )
            for spec in self._setup.manifest.stages["features"].outputs
            if spec.stride is not None
        }
