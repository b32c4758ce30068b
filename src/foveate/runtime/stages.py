# SPDX-License-Identifier: Apache-2.0
"""The steps from an image to its detections, each enqueued on the streams of the image's slot.

Nothing here waits for a result. All shapes follow from the size of the image and from K, the
number of windows; how many of the K exist is known to the device only.

::

    image ─ resize ─┬─ place ─ propose ─┐ (each level, the largest first)
                      │                   └─ select ─ gather ─ refine ─ mask_boxes ─ nms ─┐
                      └─ place ─ features ───────────────────────────────── classify ─ finish
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.kernels.finish import FINISH
from foveate.kernels.gather_windows import GATHER_WINDOWS
from foveate.kernels.mask_boxes import MASK_BOXES
from foveate.kernels.nms import NMS
from foveate.kernels.pyramid import PLACE, RESIZE
from foveate.kernels.select_top_k import SELECT_TOP_K
from foveate.kernels.take_boxes import TAKE_BOXES
from foveate.runtime.frame import step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foveate.arrays import UInt8Array
    from foveate.runtime.devices import Buffer, Device, Stream
    from foveate.runtime.engines import Engine
    from foveate.runtime.frame import Frame
    from foveate.runtime.settings import Settings
    from foveate.runtime.sizes import FeaturesPlan, LevelPlan
    from foveate.runtime.slot import Turns

REFINED_AT_ONCE = 10
"""Windows in a run of refine: what it needs for them, some 2 MB each, does not grow with K, and of so
few stays in the caches of a processor."""


class Stages:
    """Enqueues the steps for an image.

    Args:
        device: Runs the operations between the engines.
        engines: Engine of each stage.
        settings: The numbers of the bundle and of the user.
        turns: Order of the images in each stage.
    """

    def __init__(
        self, device: Device, engines: Mapping[str, Engine], settings: Settings, turns: Turns
    ) -> None:
        self._device = device
        self._engines = engines
        self._settings = settings
        self._manifest = settings.manifest
        self._turns = turns

    def upload(self, frame: Frame, image: UInt8Array) -> None:
        """Copy the image into its slot; when this returns, the caller may change it."""
        main = frame.slot.main
        self._device.upload(image, frame.image, main)
        main.record().synchronize()
        if frame.working is not frame.image:
            self._device.launch(RESIZE, main, frame.image, frame.working)

    def propose(self, frame: Frame) -> None:
        """Score all windows of all levels and select the best K."""
        main, levels, windows = frame.slot.main, frame.plan.levels, self._manifest.windows
        self._turns.begin("propose", main)
        # The largest level first: what it needs at a time then serves the smaller ones too.
        for index in sorted(range(len(levels)), key=lambda i: -_area(levels[i])):
            self._propose_level(frame, index)
        self._turns.end("propose", main)
        self._device.launch(
            SELECT_TOP_K,
            main,
            frame.grids("scores"),
            frame.picks,
            frame.geometry,
            frame.scores,
            frame.count,
            factors=tuple((level.horizontal, level.vertical) for level in levels),
            size=windows.size,
            stride=windows.stride,
            padding=windows.padding,
            window_nms_iou=self._settings.select.window_nms_iou,
        )

    def refine(self, frame: Frame) -> None:
        """Make the mask of each window, some windows at a time, and find the masks' boxes."""
        main = frame.slot.main
        self._turns.begin("refine", main)
        for first in range(0, frame.k, REFINED_AT_ONCE):
            self._refine_some(frame, first)
        self._turns.end("refine", main)
        self._device.launch(
            MASK_BOXES,
            main,
            frame.logits,
            frame.geometry,
            frame.count,
            frame.boxes,
            threshold=self._manifest.mask.threshold,
            image_height=frame.plan.height,
            image_width=frame.plan.width,
        )

    def features(self, frame: Frame) -> None:
        """Compute the maps that classification reads: on the side, once the image is there."""
        side, seen = frame.slot.side, _seen(frame)
        canvas = frame.features_canvas(seen)
        side.wait(frame.slot.main.record())
        self._turns.begin("features", side)
        self._place(frame, canvas, side, seen, border=0)
        bindings = {"image": canvas, **frame.maps(seen)}
        self._engines["features"].enqueue(bindings, side)
        self._turns.end("features", side)

    def classify(self, frame: Frame) -> None:
        """Name the proposals, and find the best of each class."""
        main, seen = frame.slot.main, _seen(frame)
        self._choose(frame, seen)
        classes = frame.classes()
        main.wait(frame.slot.side.record())
        self._turns.begin("classify", main)
        bindings = {**frame.maps(seen), "boxes": frame.regions, **classes}
        self._engines["classify"].enqueue(bindings, main, rows=frame.kept_count)
        self._turns.end("classify", main)
        self._finish(frame, classes)

    def _propose_level(self, frame: Frame, index: int) -> None:
        level, main = frame.plan.levels[index], frame.slot.main
        canvas = frame.canvas(level)
        self._place(frame, canvas, main, level, border=self._manifest.windows.padding)
        names = [spec.name for spec in self._manifest.stages["propose"].outputs]
        bindings = {name: frame.grid(index, name) for name in names}
        self._engines["propose"].enqueue({"image": canvas, **bindings}, main)

    def _place(
        self,
        frame: Frame,
        canvas: Buffer,
        stream: Stream,
        target: LevelPlan | FeaturesPlan,
        *,
        border: int,
    ) -> None:
        numbers = self._manifest.preprocessing
        self._device.launch(
            PLACE,
            stream,
            frame.working,
            canvas,
            height=target.height,
            width=target.width,
            border=border,
            mean=numbers.mean,
            std=numbers.std,
            fill=numbers.fill,
        )

    def _refine_some(self, frame: Frame, first: int) -> None:
        """Gather what belongs to the windows from ``first`` on, and make their masks."""
        main, last = frame.slot.main, min(first + REFINED_AT_ONCE, frame.k)
        bindings = {"logits": frame.logits.part(first, last)}
        for spec in self._manifest.stages["refine"].inputs:
            bindings[spec.name] = self._gather(frame, spec.name, first, last)
        self._engines["refine"].enqueue(bindings, main, rows=frame.count, first=first)

    def _gather(self, frame: Frame, name: str, first: int, last: int) -> Buffer:
        patches = frame.patches(name, last - first)
        stride = step(name) if name.startswith("horizontal_") else 1
        grids, picks = frame.grids(name), frame.picks.part(first, last)
        self._device.launch(GATHER_WINDOWS, frame.slot.main, grids, picks, patches, step=stride)
        return patches

    def _choose(self, frame: Frame, seen: FeaturesPlan) -> None:
        """Choose the proposals that are classified, and bring them to the features canvas."""
        spec, main = self._settings.classify, frame.slot.main
        assert spec is not None
        kept, kept_count = frame.kept, frame.kept_count
        iou = 1.0 if spec.proposal_nms_iou is None else spec.proposal_nms_iou
        self._device.launch(
            NMS, main, frame.boxes, frame.scores, frame.count, kept, kept_count, iou=iou
        )
        factors = {"horizontal": seen.horizontal, "vertical": seen.vertical}
        self._device.launch(TAKE_BOXES, main, frame.boxes, kept, frame.regions, **factors)

    def _finish(self, frame: Frame, classes: Mapping[str, Buffer]) -> None:
        spec = self._settings.classify
        assert spec is not None
        self._device.launch(
            FINISH,
            frame.slot.main,
            classes["probabilities"],
            classes["deltas"],
            frame.boxes,
            frame.scores,
            frame.kept,
            frame.kept_count,
            *frame.found().values(),
            mean=spec.delta_mean,
            std=spec.delta_std,
            calibration=spec.calibration,
            score_threshold=self._settings.score_threshold,
            iou=spec.class_nms_iou,
            height=frame.plan.height,
            width=frame.plan.width,
        )


def _area(level: LevelPlan) -> int:
    return level.canvas_height * level.canvas_width


def _seen(frame: Frame) -> FeaturesPlan:
    assert frame.plan.features is not None
    return frame.plan.features
