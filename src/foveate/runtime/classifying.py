# SPDX-License-Identifier: Apache-2.0
"""The steps from an image and its proposals to detections, and their memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.kernels.nms.op import GATHER_BOXES
from foveate.kernels.postprocess.op import POSTPROCESS
from foveate.runtime.features import Features
from foveate.runtime.packed import Packed
from foveate.runtime.setup import FLOAT, INT, LONG

if TYPE_CHECKING:
    from foveate.runtime.devices import Buffer, Stream
    from foveate.runtime.proposing import Proposing
    from foveate.runtime.setup import Setup
    from foveate.runtime.sizes import Sizes


class Classifying:
    """The steps from an image and its proposals to detections, for images of the same sizes.

    Args:
        setup: What all slots of the pipeline have in common.
        sizes: Sizes of the images.
        image: (h, w, 3) uint8 RGB image at working size.
        proposing: The steps whose proposals are classified.
        main: Stream that carries the chain from the image to its detections.
        side: Stream that carries the features.

    Attributes:
        features: The steps to the maps that are classified.
        found: Results, N arrays of which the first ``count`` rows exist: ``boxes`` (N, 4) float32
            xyxy, in pixels of the image; ``scores`` (N,) float32, calibrated, best first;
            ``labels`` (N,) int64 class indices, without the background; ``rows`` (N,) int32 index
            of the window that each detection is made from; ``count`` (1,) int32.
    """

    def __init__(
        self,
        setup: Setup,
        sizes: Sizes,
        image: Buffer,
        proposing: Proposing,
        main: Stream,
        side: Stream,
    ) -> None:
        assert setup.manifest.classify is not None
        self._setup, self._proposing = setup, proposing
        self._height, self._width = sizes.height, sizes.width
        self._spec = setup.manifest.classify
        self._main, self._side = main, side
        self.features = Features(setup, sizes, image, proposing, side)
        k, classes = proposing.k, len(setup.manifest.class_names)
        n = min(self._spec.max_detections, k * classes)
        self.found = Packed(
            setup.device,
            boxes=((n, 4), FLOAT),
            scores=((n,), FLOAT),
            labels=((n,), LONG),
            rows=((n,), INT),
            count=((1,), INT),
        )
        self._regions = setup.device.allocate((k, 4), FLOAT)  # their boxes on the features' canvas
        outputs = {"probabilities": (k, classes + 1), "deltas": (k, classes + 1, 4)}
        self._outputs = {
            name: setup.tensor(setup.output("classify", name), *shape)
            for name, shape in outputs.items()
        }
        names = [spec.name for spec in setup.manifest.stages["classify"].inputs]
        maps = {name: self.features.maps[name] for name in names if name != "boxes"}
        bindings = {**maps, "boxes": self._regions, **self._outputs}
        engine = setup.engines["classify"]
        self._classify = engine.bind(bindings, main, rows=proposing.found.buffer("keep_count"))

    def enqueue(self) -> None:
        """Enqueue the classification of the proposals and the choice of the best detections."""
        self._gather()
        self._main.wait(self._side.record())
        self._classify()
        self._postprocess()

    def _gather(self) -> None:
        """Move the boxes of the proposals to the features' canvas."""
        proposals, sizes = self._proposing.found, self.features.sizes
        self._setup.device.launch(
            GATHER_BOXES,
            self._main,
            proposals.buffer("boxes"),
            proposals.buffer("keep"),
            self._regions,
            horizontal=sizes.horizontal,
            vertical=sizes.vertical,
            offset=sizes.border,
        )

    def _postprocess(self) -> None:
        spec, proposals, found = self._spec, self._proposing.found, self.found
        self._setup.device.launch(
            POSTPROCESS,
            self._main,
            *self._outputs.values(),
            *(proposals.buffer(name) for name in ("boxes", "scores", "keep", "keep_count")),
            *(found.buffer(name) for name in ("boxes", "scores", "labels", "rows", "count")),
            mean=spec.delta_mean,
            std=spec.delta_std,
            calibration=spec.calibration,
            score_threshold=self._setup.score_threshold,
            iou=spec.class_nms_iou,
            height=self._height,
            width=self._width,
        )
