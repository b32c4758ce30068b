# SPDX-License-Identifier: Apache-2.0
"""A COCO-format instance data set on disk, as training uses it."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from foveate.arrays import Float32Array, Int64Array, UInt8Array
from foveate.datasets.annotations import Annotations, Problems, Reason
from foveate.datasets.layouts import Source, find_source, locate, size_remedy
from foveate.datasets.reader import read_annotations
from foveate.errors import DataError, InputError
from foveate.images.reading import read_image

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One annotated object.

    Args:
        label: Index of its class from 0, in the order of the data set's category ids.
        box: (4,) float32 x1, y1, x2, y2 in pixels of the image, right and bottom exclusive.
        mask: (H, W) uint8, 1 on the visible pixels of the object.
    """

    label: int
    box: Float32Array
    mask: UInt8Array


class CocoDataset:
    """Images and their objects, of any number of classes; invalid records are left out and counted.

    Args:
        source: One part of a data set: its directory, in any of ``LAYOUTS``, or its ``Source``.
        masks: Whether objects that have a box and no mask are left out and counted. If not, only
            their labels and boxes may be read.

    Attributes:
        file: COCO file of the annotations, or directory of labelme's.
        layout: Name of the layout in ``LAYOUTS``.
        annotations: Objects, crowds among them, of all images whose file exists.

    Raises:
        DataError: The annotations are missing or unreadable, or no image exists.
    """

    def __init__(self, source: Path | Source, *, masks: bool = True):
        if isinstance(source, Path):
            source = find_source(source)
        self.file, self.layout = source.file, source.layout
        table = read_annotations(source.read(), file=self.file, strict=False, masks=masks)
        if not len(table) and (boxes := table.problems.counts[Reason.NO_MASK]):
            raise DataError(
                f"none of the objects has a mask, {boxes} have only a box",
                file=self.file,
                remedy="outline them; with boxes only, train fast-rcnn-vgg16 with --proposals",
            )
        self._place, files = locate(table.files, source.places)
        for index, (name, file) in enumerate(zip(table.files, files, strict=True)):
            if file is None:
                record = f"image {table.image_ids[index]}, {self._place / name}"
                table.problems.add(Reason.NO_IMAGE, record)
        there = np.array([i for i, file in enumerate(files) if file is not None], np.int64)
        if files and not len(there):
            raise DataError(
                f"none of the {len(files)} annotated images exists, the first is "
                f"{self._place / table.files[0]}",
                file=self.file,
                remedy="put the images there, or export the data set with its images",
            )
        table = replace(table, files=tuple(file or "" for file in files))
        self.annotations = table.of_images(there)
        if self.problems:
            _log.warning("records of %s were left out: %s", self.file, self.problems.report())

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return tuple(name for _, name in self.annotations.categories)

    @property
    def problems(self) -> Problems:
        """The records that were left out when the data set was opened."""
        return self.annotations.problems

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of classes, annotations, and image sizes and times."""
        table = self.annotations
        stamps = [_stamp(self.path(index)) for index in range(len(self))]
        described = (table.categories, table.files, stamps)
        digest = hashlib.sha256(repr(described).encode(errors="surrogateescape"))
        columns = (table.sizes, table.starts, table.labels, table.crowds, table.areas, table.boxes)
        for column in (*columns, table.rows, *vars(table.segmentations).values()):
            digest.update(column.tobytes())
        return digest.hexdigest()

    def of_images(self, indices: Int64Array) -> CocoDataset:
        """Return the part with these images, in ascending order, and with all classes."""
        return self._with(self.annotations.of_images(indices))

    def with_classes(self, names: Sequence[str], whose: str = "the training part") -> CocoDataset:
        """Return the same images with the labels of these classes, those of a training run.

        Args:
            names: Class names in the order of the labels.
            whose: Owner of the classes, for the message of the error.

        Raises:
            DataError: An object is of another class.
        """
        own = self.class_names
        used = {own[label] for label in np.unique(self.annotations.labels).tolist()}
        if not used <= set(names):
            raise DataError(
                f"{whose} lacks the classes {', '.join(sorted(used - set(names)))}",
                file=self.file,
                remedy="annotate images of them there, or remove them here",
            )
        places = np.array([names.index(name) if name in names else -1 for name in own], np.int32)
        labels = places[self.annotations.labels] if len(own) else self.annotations.labels
        categories = tuple(enumerate(names, 1))
        return self._with(replace(self.annotations, labels=labels, categories=categories))

    def split(self, share: float, seed: int = 0) -> tuple[CocoDataset, CocoDataset]:
        """Split the images into those to train with and a share to hold out.

        The choice depends on the names and the seed only. An image with the last object of a class
        is never held out; of two or more other images at least one is.
        """
        table = self.annotations
        names = [f"{seed}/{file}".encode(errors="surrogateescape") for file in table.files]
        # By digest of the name: adding images does not reshuffle the existing ones.
        order = sorted(range(len(self)), key=lambda i: hashlib.sha256(names[i]).digest())
        classes = [np.unique(table.labels[self.rows(i)]) for i in range(len(self))]
        left = np.bincount(np.concatenate([np.zeros(0, int), *classes]), minlength=1)
        most = min(max(round(share * len(self)), 1), len(self) - 1)
        held: list[int] = []
        for index in order:
            if len(held) < most and (left[classes[index]] > 1).all():
                held.append(index)
                left[classes[index]] -= 1
        kept = np.setdiff1d(np.arange(len(self)), held)
        return self.of_images(kept), self.of_images(np.array(sorted(held), np.int64))

    def _with(self, table: Annotations) -> CocoDataset:
        part = copy.copy(self)
        part.annotations = table
        part.__dict__.pop("digest", None)  # the cached one is of the whole
        return part

    def __len__(self) -> int:
        return len(self.annotations.files)

    def path(self, index: int) -> Path:
        """Return the file of an image."""
        return self._place / self.annotations.files[index]

    def image(self, index: int) -> UInt8Array:
        """Read an image: (H, W, 3) uint8 RGB, upright, as annotation tools show it.

        Raises:
            DataError: Its file is missing, truncated or not an image, or the size is not the
                annotated one.
        """
        path = self.path(index)
        try:
            image = read_image(path)
        except InputError as error:
            raise DataError(error.what, file=path, remedy=error.remedy) from error
        height, width = self.annotations.sizes[index].tolist()
        if image.shape[:2] != (height, width):
            raise DataError(
                f"the image has {image.shape[1]} x {image.shape[0]} pixels, its annotations "
                f"are for {width} x {height}",
                file=path,
                remedy=size_remedy(image.shape[:2], (height, width)),
            )
        return image

    def rows(self, index: int) -> Int64Array:
        """Return the rows of an image's objects in ``annotations``, crowds among them."""
        first, last = self.annotations.starts[index : index + 2].tolist()
        return np.arange(first, last)

    def crowd_mask(self, index: int) -> UInt8Array:
        """Return (H, W) uint8, 1 where an image shows crowds: objects that nobody separated."""
        table = self.annotations
        mask = np.zeros(tuple(table.sizes[index].tolist()), np.uint8)
        for row in self.rows(index).tolist():
            if table.crowds[row]:
                mask |= table.mask(row)
        return mask

    def instances(self, index: int) -> list[Instance]:
        """Decode the objects of an image, without crowds."""
        table = self.annotations
        found = []
        for row in self.rows(index).tolist():
            if not table.crowds[row]:
                x, y, width, height = table.boxes[row].tolist()
                box = np.array([x, y, x + width, y + height], np.float32)
                found.append(Instance(label=int(table.labels[row]), box=box, mask=table.mask(row)))
        return found


def _stamp(file: Path) -> tuple[int, ...]:
    """Return size and modification time of a file; nothing if it cannot be read."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns
