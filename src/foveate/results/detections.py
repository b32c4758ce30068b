# SPDX-License-Identifier: Apache-2.0
"""Detections and proposals of an image.

Coordinates are continuous pixels of the input image; right and bottom are exclusive.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from foveate.arrays import Array, BoolArray, Float32Array, Int64Array, UInt8Array
from foveate.errors import OptionError
from foveate.results.arguments import checked_number
from foveate.results.coco import coco_results
from foveate.results.conversions import to_cvat, to_labelme, to_supervision
from foveate.results.html_table import html_table
from foveate.results.masks import Masks, checked_index
from foveate.results.overlay import draw
from foveate.results.saving import save

if TYPE_CHECKING:
    import supervision

Class: TypeAlias = "str | int | np.integer[Any]"  # by name or index


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
        scores: (N,) float32 objectness, 0 to 1, lower if a better proposal covers the box.
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

    def filter(self, *, score: float) -> Proposals:
        """Return the proposals with at least a score, 0 to 1, in the same order."""
        return self[_at_least(self.scores, score)]

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Return COCO results, all of category 1."""
        labels = np.zeros(len(self), np.int64)
        return coco_results(image_id, self.boxes, self.scores, labels, self.masks)

    def to_supervision(self) -> supervision.Detections:
        """Return the proposals as :meth:`Detections.to_supervision` does, without classes."""
        return to_supervision(self.boxes, self.scores, self.masks)

    def to_labelme(self, image: str | os.PathLike[str], *, tolerance: float = 1.0) -> str:
        """Return labelme's file as :meth:`Detections.to_labelme` does, with the label "object"."""
        return to_labelme(self, ["object"] * len(self), image, tolerance)

    def to_cvat(self, image: str | os.PathLike[str], *, tolerance: float = 1.0) -> str:
        """Return CVAT's file as :meth:`Detections.to_cvat` does, with the label "object"."""
        return to_cvat(self, ["object"] * len(self), ("object",), image, tolerance)

    def draw(self, image: Array | str | os.PathLike[str]) -> UInt8Array:
        """Return a copy of the image with the proposals drawn on it, as ``Detections.draw`` does."""
        return draw(image, self.boxes, self.masks, [f"{score:.2f}" for score in self.scores])

    def save(self, path: str | os.PathLike[str], image: Array | str | os.PathLike[str]) -> None:
        """Save the proposals as :meth:`Detections.save` does, with the class "object"."""
        save(path, self, image, ("object",))

    def __repr__(self) -> str:
        _, height, width = self.masks.shape
        return f"Proposals({len(self)} in {width} x {height})"

    def _repr_html_(self) -> str:
        return html_table(repr(self), None, self.scores, self.boxes)


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
            each detection is made from; -1 if the image was cut into tiles.
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

    def filter(
        self, *, score: float = 0.0, classes: Class | Iterable[Class] | None = None
    ) -> Detections:
        """Return the detections with at least a score, of some classes, in the same order.

        Args:
            score: Smallest score, 0 to 1.
            classes: Class, or classes, by name or index; None for all.

        Raises:
            OptionError: A class is unknown, or the score is no number in its range.
        """
        keep = _at_least(self.scores, score)
        if classes is not None:
            several = isinstance(classes, Iterable) and not isinstance(classes, str)
            some: Any = classes if several else [classes]
            keep &= np.isin(self.labels, [self._class_index(one) for one in some])
        return self[keep]

    def _class_index(self, one: Class) -> int:
        if isinstance(one, str) and one in self.class_names:
            return self.class_names.index(one)
        if np.issubdtype(type(one), np.integer) and one in range(len(self.class_names)):
            return int(one)
        raise OptionError(
            f"the class {one!r} is unknown, expected an index below {len(self.class_names)} or one "
            f"of {', '.join(self.class_names)}",
            remedy="correct the name",
        )

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Return COCO results with category ids from 1, xywh boxes and run-length masks."""
        return coco_results(image_id, self.boxes, self.scores, self.labels, self.masks)

    def to_supervision(self) -> supervision.Detections:
        """Return the detections for the annotators, zones and trackers of Roboflow's supervision.

        Masks are a ``supervision.CompactMask``, so that no array of N x H x W pixels is made.
        ``class_id`` has the labels and ``data["class_name"]`` the names.

        Raises:
            BackendError: The package supervision is not installed, or older than 0.28.
        """
        return to_supervision(self.boxes, self.scores, self.masks, self.labels, self.names)

    def to_labelme(self, image: str | os.PathLike[str], *, tolerance: float = 1.0) -> str:
        """Return the content of labelme's file of the image, with masks as polygons.

        Boxes are left out, and scores have four decimals.

        Args:
            image: Path of the image, relative to the directory of the file.
            tolerance: Largest distance in pixels between the outline of a mask and its polygons. It
                is lowered until the polygons overlap with the mask by at least 0.98.

        Raises:
            OptionError: The tolerance is no number from 0 to 100, or ``image`` is no path.
        """
        return to_labelme(self, self.names, image, tolerance)

    def to_cvat(self, image: str | os.PathLike[str], *, tolerance: float = 1.0) -> str:
        """Return a file of CVAT, "CVAT for images 1.1", of this image alone, with masks as polygons.

        One such file may have many images: ``foveate.labeling.CvatLabels`` collects them.

        Args:
            image: Name of the image in CVAT, usually that of its file.
            tolerance: As in :meth:`to_labelme`, which also has what is omitted and raised.
        """
        return to_cvat(self, self.names, self.class_names, image, tolerance)

    def draw(self, image: Array | str | os.PathLike[str]) -> UInt8Array:
        """Return a copy of the image with masks, outlines and labels drawn on it.

        Args:
            image: The processed image: a file, or an (H, W, 3) uint8 RGB array.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        texts = [f"{one.name} {one.score:.2f}" for one in self]
        return draw(image, self.boxes, self.masks, texts)

    def save(self, path: str | os.PathLike[str], image: Array | str | os.PathLike[str]) -> None:
        """Save the detections to a file, whose suffix selects the format.

        Args:
            path: ``.json`` for a COCO document of this image; ``.jpg``, ``.jpeg`` or ``.png`` for
                an overlay. An existing file is replaced.
            image: The processed image: a file, or for an overlay an (H, W, 3) uint8 RGB array.

        Raises:
            OptionError: The suffix is another, a COCO document gets an array, or the image is too
                long for a JPEG.
            InputError: The image cannot be read, or the file cannot be written.
        """
        save(path, self, image, self.class_names)

    def __repr__(self) -> str:
        _, height, width = self.masks.shape
        some = ", ".join(f"{one.name} {one.score:.2f}" for one in self[:5])
        more = ", ..." if len(self) > 5 else ""
        return f"Detections({len(self)} in {width} x {height}{some and ': '}{some}{more})"

    def _repr_html_(self) -> str:
        return html_table(repr(self), self.names, self.scores, self.boxes)


@dataclass(frozen=True, eq=False, kw_only=True)
class Findings:
    """The proposals of an image, and the detections that are made from some of them.

    Args:
        proposals: All proposals, best first.
        detections: Detections, best first; their ``proposals`` are indices into ``proposals``.
    """

    proposals: Proposals
    detections: Detections


def _at_least(scores: Float32Array, score: float) -> BoolArray:
    return scores >= checked_number("score", score, most=1)  # a percentage would leave nothing


def _corners(box: Float32Array) -> tuple[float, ...]:
    return tuple(round(float(value), 1) for value in box)
