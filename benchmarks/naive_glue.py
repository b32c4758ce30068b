# SPDX-License-Identifier: Apache-2.0
"""The stages of a bundle with the code that one writes between them at first, in NumPy and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime

from foveate.arrays import Array, BoolArray, UInt8Array
from foveate.bundle import Bundle
from foveate.kernels.postprocess.reference import Detection, postprocess
from foveate.runtime.options import DEFAULT_SCORE_THRESHOLD
from foveate.runtime.sizes import LevelSizes, Sizes

Window = tuple[int, int, int]
"""Level, row and column."""
Found = list[tuple[Detection, BoolArray]]
"""Detections, each with its mask (height, width)."""


class NaiveGlue:
    """A bundle in plain sessions of ONNX Runtime, one image at a time, nothing kept between images.

    Args:
        bundle: Bundle whose classifier continues the trunk of its proposals.
        threads: Number of threads per session.
        rows: Number of windows and boxes that are refined and classified at a time; all by default.
    """

    def __init__(self, bundle: Bundle, threads: int, rows: int | None = None) -> None:
        self._rows = rows
        self._manifest = bundle.manifest
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._sessions = {
            name: onnxruntime.InferenceSession(
                str(bundle.root / stage.file), options, providers=["CPUExecutionProvider"]
            )
            for name, stage in bundle.manifest.stages.items()
        }

    def __call__(self, image: UInt8Array) -> Found:
        """Return the detections of an image, (height, width, 3) uint8 RGB, best first."""
        height, width = image.shape[:2]
        sizes = Sizes.of(height, width, self._manifest)
        assert sizes.features is not None
        assert sizes.features.level is not None
        side = (sizes.working_width, sizes.working_height)
        working = _resized(image, side)
        levels = [self._run("propose", image=self._canvas(working, one)) for one in sizes.levels]
        windows = self._select(levels, sizes)
        refined = self._refine(levels, windows)
        masks = [
            self._pasted(one, self._geometry(sizes, window), (height, width))
            for one, window in zip(refined["logits"], windows, strict=True)
        ]
        scores = refined["mask_scores"][:, 0]
        boxes = np.array([_box(one) for one in masks], np.float32)
        kept = self._suppress(boxes, scores)
        return self._classify(
            levels[sizes.features.level], sizes, scores[kept], boxes[kept], [masks[i] for i in kept]
        )

    def _run(self, stage: str, **inputs: Array) -> dict[str, Array]:
        names = [one.name for one in self._manifest.stages[stage].outputs]
        return dict(zip(names, self._sessions[stage].run(None, inputs), strict=True))

    def _run_rows(self, stage: str, rows: dict[str, Array], **inputs: Array) -> dict[str, Array]:
        """Run a stage for some rows at a time, and join its outputs."""
        count = len(next(iter(rows.values())))
        step = self._rows or count
        parts = [
            self._run(stage, **inputs, **{n: all_[i : i + step] for n, all_ in rows.items()})
            for i in range(0, count, step)
        ]
        return {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}

    def _canvas(self, image: Array, level: LevelSizes) -> Array:
        """Return a level with its border, (1, 3, rows, columns) float32."""
        numbers, border = self._manifest.preprocessing, self._manifest.windows.padding
        canvas = np.full((level.canvas_height, level.canvas_width, 3), numbers.fill, np.float32)
        resized = _resized(image, (level.width, level.height))
        canvas[border : border + level.height, border : border + level.width] = resized
        canvas = (canvas - np.array(numbers.mean)) / np.array(numbers.std)
        return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32)

    def _geometry(self, sizes: Sizes, window: Window) -> Array:
        """Return left, top, width and height of a window in pixels of the image."""
        level, row, column = window
        spec, one = self._manifest.windows, sizes.levels[level]
        factors = np.array([one.horizontal, one.vertical])
        corner = np.array([column, row]) * spec.stride - spec.padding
        return np.concatenate([corner * factors, spec.size * factors])

    def _select(self, levels: list[dict[str, Array]], sizes: Sizes) -> list[Window]:
        """Return the best windows that do not overlap a better one."""
        grids = [one["scores"][0, 0] for one in levels]
        scored = [
            (float(grid[place]), (level, *place))
            for level, grid in enumerate(grids)
            for place in np.ndindex(*grid.shape)
        ]
        scored.sort(key=lambda one: -one[0])
        kept: list[Window] = []
        boxes = np.empty((0, 4))
        for _, window in scored:
            if len(kept) == self._manifest.select.top_k:
                break
            left, top, width, height = self._geometry(sizes, window)
            box = np.array([[left, top, left + width, top + height]])
            if (_overlaps(box, boxes) <= self._manifest.select.window_nms_iou).all():
                kept.append(window)
                boxes = np.concatenate([boxes, box])
        return kept

    def _refine(self, levels: list[dict[str, Array]], windows: list[Window]) -> dict[str, Array]:
        """Return the mask logits (K, S, S) and the scores (K, 1) of the windows."""
        spec = self._manifest.windows
        inputs: dict[str, list[Array]] = {}
        for level, row, column in windows:
            for one in self._manifest.stages["refine"].inputs:
                found = levels[level][one.name][0]
                if len(one.shape) == 2:  # a vector or a score
                    crop = found[:, row, column]
                else:
                    side = int(one.shape[-1])
                    step = side * spec.stride // spec.size
                    crop = found[:, row * step : row * step + side, column * step :][:, :, :side]
                inputs.setdefault(one.name, []).append(crop)
        stacked = {name: np.stack(all_) for name, all_ in inputs.items()}
        return self._run_rows("refine", stacked)

    def _suppress(self, boxes: Array, scores: Array) -> list[int]:
        """Return the indices of the boxes that do not overlap a better one, best first."""
        kept: list[int] = []
        for index in np.argsort(-scores, kind="stable"):
            overlaps = _overlaps(boxes[[index]], boxes[kept])
            if boxes[index, 2] > 0 and (overlaps <= self._manifest.select.proposal_nms_iou).all():
                kept.append(int(index))
        return kept

    def _pasted(self, logits: Array, geometry: Array, size: tuple[int, ...]) -> BoolArray:
        """Return the mask of a window in the image."""
        left, top, width, height = (round(one) for one in geometry.tolist())
        resized = _resized(logits, (max(1, width), max(1, height)))
        mask = np.zeros(size, bool)
        rows, columns = slice(max(0, top), top + height), slice(max(0, left), left + width)
        inside = resized[rows.start - top :, columns.start - left :]
        target = mask[rows, columns]
        target[:] = inside[: target.shape[0], : target.shape[1]] > self._manifest.mask.threshold
        return mask

    def _classify(
        self,
        maps: dict[str, Array],
        sizes: Sizes,
        scores: Array,
        boxes: Array,
        masks: list[BoolArray],
    ) -> Found:
        spec, seen = self._manifest.classify, sizes.features
        assert spec is not None
        assert seen is not None
        names = [one.name for one in self._manifest.stages["features"].inputs]
        maps = {**maps, **self._run("features", **{name: maps[name] for name in names})}
        names = [
            one.name for one in self._manifest.stages["classify"].inputs if one.name != "boxes"
        ]
        factors = np.array([seen.horizontal, seen.vertical] * 2, np.float32)
        regions = boxes * factors + np.float32(seen.border)
        maps = {name: maps[name] for name in names}
        found = self._run_rows("classify", {"boxes": regions}, **maps)
        detections = postprocess(
            found["probabilities"],
            found["deltas"],
            boxes,
            scores,
            range(len(boxes)),
            spec.max_detections,
            mean=spec.delta_mean,
            std=spec.delta_std,
            calibration=spec.calibration,
            score_threshold=DEFAULT_SCORE_THRESHOLD,
            iou=spec.class_nms_iou,
            height=sizes.height,
            width=sizes.width,
        )
        return [(one, masks[one[3]]) for one in detections]


def _resized(image: Array, size: tuple[int, int]) -> Array:
    grows = size[0] > image.shape[1] or size[1] > image.shape[0]
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR if grows else cv2.INTER_AREA)


def _overlaps(box: Array, boxes: Array) -> Array:
    """Return the intersection over union of a box with boxes, xyxy."""
    low, high = np.maximum(box[:, :2], boxes[:, :2]), np.minimum(box[:, 2:], boxes[:, 2:])
    inside = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = [np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (box, boxes)]
    return np.asarray(inside / (areas[0] + areas[1] - inside))


def _box(mask: BoolArray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        return (0, 0, 0, 0)
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
