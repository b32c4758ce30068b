# SPDX-License-Identifier: Apache-2.0
"""Detections and proposals of an image, and their conversions, such as to a COCO document.

Coordinates are continuous pixels of the input image; right and bottom are exclusive.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from pycocotools import mask as coco_mask

from foveate.arrays import Array, BoolArray, Float32Array, Int64Array, UInt8Array
from foveate.plain_text import json_text, portable_name
from foveate.results.masks import Masks, checked_index
from foveate.results.overlay import draw


@dataclass(frozen=True, eq=False)
class Proposal:
    """One object without a class.

    Args:
        box: (4,) float32 xyxy, which bounds the mask.
        score: Objectness, 0 to 1.
    """

    box: Float32Array
    score: float
    _masks: Masks

    @property
    def mask(self) -> BoolArray:
        """Mask of the object, (H, W) bool."""
        return self._masks[0]

    def __repr__(self) -> str:
        return f"Proposal(score={self.score:.3f}, box={_corners(self.box)})"


@dataclass(frozen=True, eq=False)
class Detection(Proposal):
    """One object with its class.

    Args:
        box: (4,) float32 xyxy, regressed; it need not bound the mask.
        score: Calibrated score, 0 to 1.
        label: Class index, from 0.
        name: Class name.
    """

    label: int
    name: str

    def __repr__(self) -> str:
        return f"Detection({self.name!r}, score={self.score:.3f}, box={_corners(self.box)})"


@dataclass(frozen=True, eq=False, kw_only=True)
class Proposals:
    """The objects of an image before classification, best first.

    An integer index selects one :class:`Proposal`; a slice, or a list or 1-D array of integers or
    bools, selects several.

    Args:
        boxes: (N, 4) float32 xyxy, which bound the masks.
        scores: (N,) float32 objectness, 0 to 1.
        masks: N masks.
    """

    boxes: Float32Array
    scores: Float32Array
    masks: Masks

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Proposal]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Proposal: ...

    @overload
    def __getitem__(self, index: slice | Array | Sequence[int]) -> Proposals: ...

    def __getitem__(self, index: int | slice | Array | Sequence[int]) -> Proposal | Proposals:
        index = checked_index(index)
        if isinstance(index, int):
            one = self.masks[np.array([index])]
            return Proposal(self.boxes[index], float(self.scores[index]), one)
        boxes, scores, masks = self.boxes[index], self.scores[index], self.masks[index]
        return Proposals(boxes=boxes, scores=scores, masks=masks)

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Return COCO results, all of category 1."""
        labels = np.zeros(len(self), np.int64)
        return _coco(image_id, self.boxes, self.scores, labels, self.masks)

    def draw(self, image: Array | str | os.PathLike[str]) -> UInt8Array:
        """Return a copy of the image with the proposals drawn on it, as ``Detections.draw`` does."""
        return draw(image, self.boxes, self.masks, [f"{score:.2f}" for score in self.scores])

    def __repr__(self) -> str:
        _, height, width = self.masks.shape
        return f"Proposals({len(self)} in {width} x {height})"


@dataclass(frozen=True, eq=False, kw_only=True)
class Detections:
    """The classified objects of an image, best first.

    An integer index selects one :class:`Detection`; a slice, or a list or 1-D array of integers or
    bools, selects several.

    Args:
        boxes: (N, 4) float32 xyxy, regressed: they need not bound the masks.
        scores: (N,) float32, calibrated: a share of about s of the detections with score s is
            correct.
        labels: (N,) int64 index into ``class_names``.
        class_names: Names of all classes.
        masks: N masks, unchanged from the proposals.
        proposals: (N,) int64 index, into the result of ``Pipeline.propose``, of the proposal that
            each detection is made from.
    """

    boxes: Float32Array
    scores: Float32Array
    labels: Int64Array
    class_names: tuple[str, ...]
    masks: Masks
    proposals: Int64Array

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Detection: ...

    @overload
    def __getitem__(self, index: slice | Array | Sequence[int]) -> Detections: ...

    def __getitem__(self, index: int | slice | Array | Sequence[int]) -> Detection | Detections:
        index = checked_index(index)
        if isinstance(index, int):
            label, one = int(self.labels[index]), self.masks[np.array([index])]
            name, score = self.class_names[label], float(self.scores[index])
            return Detection(self.boxes[index], score, one, label, name)
        return Detections(
            boxes=self.boxes[index],
            scores=self.scores[index],
            labels=self.labels[index],
            class_names=self.class_names,
            masks=self.masks[index],
            proposals=self.proposals[index],
        )

    @property
    def names(self) -> list[str]:
        """Class name of each detection."""
        return [self.class_names[label] for label in self.labels]

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Return COCO results with category ids from 1, xywh boxes and run-length masks."""
        return _coco(image_id, self.boxes, self.scores, self.labels, self.masks)

    def draw(self, image: Array | str | os.PathLike[str]) -> UInt8Array:
        """Return a copy of the image with masks, outlines and labels drawn on it.

        Args:
            image: The processed image: a file, or an (H, W, 3) uint8 RGB array.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        texts = [f"{one.name} {one.score:.2f}" for one in self]
        return draw(image, self.boxes, self.masks, texts)

    def __repr__(self) -> str:
        _, height, width = self.masks.shape
        some = ", ".join(f"{one.name} {one.score:.2f}" for one in self[:5])
        more = ", ..." if len(self) > 5 else ""
        return f"Detections({len(self)} in {width} x {height}: {some}{more})"


@dataclass(frozen=True, eq=False, kw_only=True)
class Findings:
    """The proposals of an image, and the detections that are made from some of them.

    Args:
        proposals: All proposals, best first.
        detections: Detections, best first; their ``proposals`` are indices into ``proposals``.
    """

    proposals: Proposals
    detections: Detections


class CocoDocument:
    """A document with ``images``, ``categories`` and ``annotations``, whose ids start at 1.

    ``annotations`` alone is a COCO results list. Images without a result are listed too. Each entry
    is converted to text once, so that the document can be written after every image.

    Args:
        class_names: Names of the categories.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self._images: list[str] = []
        self._annotations: list[str] = []
        self._categories = [{"id": i, "name": name} for i, name in enumerate(class_names, start=1)]

    def __len__(self) -> int:
        return len(self._images)

    def add(self, file_name: str, detections: Detections) -> None:
        """Add the detections of an image."""
        _, height, width = detections.masks.shape
        image = len(self._images) + 1
        entries: list[str] = []
        for entry in detections.to_coco(image):
            entry["id"] = len(self._annotations) + len(entries) + 1
            entry["area"] = int(coco_mask.area(entry["segmentation"]))
            entry["iscrowd"] = 0
            entries.append(json_text(entry).rstrip())
        size = {"width": width, "height": height}
        self._annotations += entries
        self._images.append(
            json_text({"id": image, "file_name": portable_name(file_name), **size}).rstrip()
        )

    def to_json(self) -> str:
        """Return the document as text."""
        images, annotations = ", ".join(self._images), ", ".join(self._annotations)
        categories = json_text(self._categories).rstrip()
        return f'{{"images": [{images}], "categories": {categories}, "annotations": [{annotations}]}}\n'


def _corners(box: Float32Array) -> tuple[float, ...]:
    return tuple(round(float(value), 1) for value in box)


def _coco(
    image_id: int, boxes: Float32Array, scores: Float32Array, labels: Int64Array, masks: Masks
) -> list[dict[str, Any]]:
    number = operator.index(image_id)  # the JSON encoder rejects NumPy integers
    sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    rows = zip(sizes.tolist(), scores.tolist(), labels.tolist(), masks.rle(), strict=True)
    return [
        {
            "image_id": number,
            "category_id": label + 1,
            "bbox": [round(value, 3) for value in box],
            "score": score,
            "segmentation": code,
        }
        for box, score, label, code in rows
    ]
