# SPDX-License-Identifier: Apache-2.0
"""A COCO-format instance data set on disk, as training uses it."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate.errors import DataError, InputError
from foveate.pictures import read_picture
from foveate.training.dataset.annotations import Annotations
from foveate.training.dataset.problems import Problems, Reason
from foveate.training.dataset.reader import read_annotations, read_content

__all__ = ["CocoDataset", "Instance"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One annotated object.

    Attributes:
        label: class index from 0, in the order of the data set's category ids.
        box: (4,) float32 x1, y1, x2, y2 in picture pixels, right and bottom exclusive.
        mask: (H, W) uint8, 1 on the object's visible pixels.
    """

    label: int
    box: NDArray[np.float32]
    mask: NDArray[np.uint8]


class CocoDataset:
    """Pictures and their objects, any number of classes; bad records are left out and counted.

    Args:
        directory: holds `annotations.json` and `pictures/`; with `annotations`, the pictures.
        annotations: file of the annotations, where it is not in `directory`.

    Attributes:
        directory: as given.
        class_names: in the order of the categories' ids.
        annotations: the objects, crowds among them, of all pictures whose file exists.

    Raises:
        DataError: The annotations are missing or unreadable, or no picture exists.
    """

    def __init__(self, directory: Path, annotations: Path | None = None):
        self.directory = directory
        self.file = annotations or directory / "annotations.json"
        self.pictures_directory = directory if annotations else directory / "pictures"
        table = read_annotations(read_content(self.file), file=self.file, strict=False)
        self.annotations = self._with_pictures(table)
        self.class_names = tuple(name for _, name in table.categories)
        if self.problems:
            _log.warning("records of %s were left out: %s", self.file, self.problems.report())

    @property
    def problems(self) -> Problems:
        """What was left out when the data set was opened."""
        return self.annotations.problems

    def _with_pictures(self, table: Annotations) -> Annotations:
        present: defaultdict[Path, set[str]] = defaultdict(set)
        paths = [self.pictures_directory / name for name in table.files]
        for folder in {path.parent for path in paths}:
            if folder.is_dir():
                present[folder] = {entry.name for entry in folder.iterdir()}
        exists = np.array([path.name in present[path.parent] for path in paths], bool)
        if paths and not exists.any():
            raise DataError(
                f"none of the {len(paths)} annotated pictures is there, the first is {paths[0]}",
                file=self.file,
                remedy="name the folder that they are relative to",
            )
        for index in np.flatnonzero(~exists).tolist():
            record = f"picture {table.picture_ids[index]}, {paths[index]}"
            table.problems.add(Reason.NO_PICTURE, record)
        return table if exists.all() else table.of_pictures(np.flatnonzero(exists))

    def __len__(self) -> int:
        return len(self.annotations.files)

    def path(self, index: int) -> Path:
        """File of a picture."""
        return self.pictures_directory / self.annotations.files[index]

    def picture(self, index: int) -> NDArray[np.uint8]:
        """Read a picture: (H, W, 3) uint8 RGB.

        Raises:
            DataError: its file is missing, is no picture, is cut off, or of another size than
                annotated.
        """
        path = self.path(index)
        try:
            picture = read_picture(path)
        except InputError as error:
            raise DataError(error.what, file=path, remedy=error.remedy) from error
        height, width = self.annotations.sizes[index].tolist()
        if picture.shape[:2] != (height, width):
            raise DataError(
                f"the picture has {picture.shape[1]} x {picture.shape[0]} pixels, its annotations "
                f"are for {width} x {height}",
                file=path,
                remedy="annotate the picture that is there, or put the annotated one back",
            )
        return picture

    def rows(self, index: int) -> NDArray[np.int64]:
        """Rows of a picture's objects in `annotations`, crowds among them."""
        first, last = self.annotations.starts[index : index + 2].tolist()
        return np.arange(first, last)

    def instances(self, index: int) -> list[Instance]:
        """Decode the objects of a picture, without crowds."""
        table = self.annotations
        found = []
        for row in self.rows(index).tolist():
            if not table.crowds[row]:
                x, y, width, height = table.boxes[row].tolist()
                found.append(
                    Instance(
                        label=int(table.labels[row]),
                        box=np.array([x, y, x + width, y + height], np.float32),
                        mask=table.mask(row),
                    )
                )
        return found
