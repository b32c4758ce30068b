# SPDX-License-Identifier: Apache-2.0
"""The steps from an image to its detections, each enqueued on the streams of the image's slot.

Nothing here waits for a result. All shapes follow from the size of the image and from K, the
number of windows; the number of those that exist is available on the device only.

::

    image ─ resize ─┬─ letterbox ─ propose ─┐ (each level, the largest first)
                    │                       └─ select ─ crop ─ refine ─ mask_boxes ─ nms ─┐
                    └─ letterbox ─ features ──────────────────────────── classify ─ postprocess
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.kernels.crop_features.op import CROP_FEATURES
from foveate.kernels.letterbox.op import LETTERBOX, RESIZE
from foveate.kernels.mask_boxes.op import MASK_BOXES
from foveate.kernels.nms.op import GATHER_BOXES, NMS
from foveate.kernels.postprocess.op import POSTPROCESS
from foveate.kernels.select_top_k.op import SELECT_TOP_K

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from foveate.arrays import UInt8Array
    from foveate.bundle.manifest import Manifest
    from foveate.runtime.devices import Buffer, Device, Stream
    from foveate.runtime.engines import Engine
    from foveate.runtime.sizes import FeaturesSizes, LevelSizes
    from foveate.runtime.slot import Slot, StageOrder


class Stages:
    """The steps for an image, each of which is enqueued by one method.

    Args:
        device: Device that runs the operations between the engines.
        engines: Engine of each stage.
        manifest: Manifest of the bundle, with the options of the pipeline applied.
        score_threshold: Smallest score of a detection.
        order: Order of the images in each stage.
    """

    def __init__(
        self,
        device: Device,
        engines: Mapping[str, Engine],
        manifest: Manifest,
        score_threshold: float,
        order: StageOrder,
    ) -> None:
        self._device = device
        self._engines = engines
        self._manifest = manifest
        self._score_threshold = score_threshold
        self._order = order

    def upload(self, slot: Slot, image: UInt8Array) -> None:
        """Copy an image into its slot; when this returns, the caller may change the image."""
        self._device.upload(image, slot.image, slot.main)
        slot.main.record().synchronize()
        if slot.working is not slot.image:
            self._device.launch(RESIZE, slot.main, slot.image, slot.working)

    def propose(self, slot: Slot) -> None:
        """Score all windows of all levels and select the best K."""
        levels, windows = slot.sizes.levels, self._manifest.windows
        self._order.begin("propose", slot.main)
        self._letterbox(slot, slot.canvases, slot.main, levels, border=windows.padding)
        # The memory that an engine takes for the largest level then serves the smaller ones too.
        for index in sorted(range(len(levels)), key=lambda i: -_area(levels[i])):
            self._propose_level(slot, index)
        self._order.end("propose", slot.main)
        self._device.launch(
            SELECT_TOP_K,
            slot.main,
            slot.grids["scores"],
            slot.indices,
            slot.windows,
            slot.scores,
            slot.count,
            factors=tuple((level.horizontal, level.vertical) for level in levels),
            size=windows.size,
            stride=windows.stride,
            padding=windows.padding,
            window_nms_iou=self._manifest.select.window_nms_iou,
        )

    def refine(self, slot: Slot) -> None:
        """Compute the mask of each window, a few windows at a time, and the boxes of the masks."""
        self._order.begin("refine", slot.main)
        for first in range(0, slot.k, slot.refined_at_once):
            self._refine_some(slot, first, min(first + slot.refined_at_once, slot.k))
        self._order.end("refine", slot.main)
        self._device.launch(
            MASK_BOXES,
            slot.main,
            slot.logits,
            slot.windows,
            slot.count,
            slot.boxes,
            threshold=self._manifest.mask.threshold,
            image_height=slot.sizes.height,
            image_width=slot.sizes.width,
        )

    def features(self, slot: Slot) -> None:
        """Compute the maps that classification reads, on the side stream."""
        sizes, canvas = slot.sizes.features, slot.features_canvas
        assert sizes is not None
        assert canvas is not None
        slot.side.wait(slot.main.record())
        self._order.begin("features", slot.side)
        self._letterbox(slot, [canvas], slot.side, [sizes], border=0)
        self._engines["features"].enqueue({"image": canvas, **slot.maps}, slot.side)
        self._order.end("features", slot.side)

    def classify(self, slot: Slot) -> None:
        """Classify the proposals and find the best detections of each class."""
        self._choose(slot)
        slot.main.wait(slot.side.record())
        self._order.begin("classify", slot.main)
        outputs = {"probabilities": slot.probabilities, "deltas": slot.deltas}
        bindings = {**slot.maps, "boxes": slot.regions, **outputs}
        self._engines["classify"].enqueue(bindings, slot.main, rows=slot.keep_count)
        self._order.end("classify", slot.main)
        self._postprocess(slot)

    def _propose_level(self, slot: Slot, index: int) -> None:
        outputs = {name: grids[index] for name, grids in slot.grids.items()}
        bindings = {"image": slot.canvases[index], **outputs}
        self._engines["propose"].enqueue(bindings, slot.main)

    def _letterbox(
        self,
        slot: Slot,
        canvases: Sequence[Buffer],
        stream: Stream,
        targets: Sequence[LevelSizes | FeaturesSizes],
        *,
        border: int,
    ) -> None:
        numbers = self._manifest.preprocessing
        self._device.launch(
            LETTERBOX,
            stream,
            slot.working,
            canvases,
            sizes=[(target.height, target.width) for target in targets],
            border=border,
            mean=numbers.mean,
            std=numbers.std,
            fill=numbers.fill,
        )

    def _refine_some(self, slot: Slot, first: int, last: int) -> None:
        """Compute the masks of the windows from ``first`` to ``last``."""
        bindings = {"logits": slot.logits.part(first, last)}
        indices = slot.indices.part(first, last)
        for name, crops in slot.crops.items():
            bindings[name] = crops.part(0, last - first)
            self._device.launch(
                CROP_FEATURES,
                slot.main,
                slot.grids[name],
                indices,
                bindings[name],
                step=slot.step(name),
            )
        self._engines["refine"].enqueue(bindings, slot.main, rows=slot.count, first=first)

    def _choose(self, slot: Slot) -> None:
        """Choose the proposals to classify, and scale their boxes to the features canvas."""
        spec, sizes = self._manifest.classify, slot.sizes.features
        assert spec is not None
        assert sizes is not None
        iou = 1.0 if spec.proposal_nms_iou is None else spec.proposal_nms_iou
        keep = slot.keep
        self._device.launch(
            NMS, slot.main, slot.boxes, slot.scores, slot.count, keep, slot.keep_count, iou=iou
        )
        factors = {"horizontal": sizes.horizontal, "vertical": sizes.vertical}
        self._device.launch(GATHER_BOXES, slot.main, slot.boxes, keep, slot.regions, **factors)

    def _postprocess(self, slot: Slot) -> None:
        spec = self._manifest.classify
        assert spec is not None
        self._device.launch(
            POSTPROCESS,
            slot.main,
            slot.probabilities,
            slot.deltas,
            slot.boxes,
            slot.scores,
            slot.keep,
            slot.keep_count,
            *slot.detections,
            mean=spec.delta_mean,
            std=spec.delta_std,
            calibration=spec.calibration,
            score_threshold=self._score_threshold,
            iou=spec.class_nms_iou,
            height=slot.sizes.height,
            width=slot.sizes.width,
        )


def _area(level: LevelSizes) -> int:
    return level.canvas_height * level.canvas_width
