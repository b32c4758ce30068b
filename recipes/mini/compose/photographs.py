# SPDX-License-Identifier: Apache-2.0
"""Photographs with outlined objects, which are pasted from one to another.

Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation"
(CVPR 2021).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compose.dataset import categories, segmentation
from compose.layer import Layer, draw_layer, lay_over, overlap
from compose.library import Cutout
from compose.lists import Entry
from compose.options import PasteOptions
from compose.photometric import change_light, finish
from compose.scene import Placed, Scene
from foveate.datasets import CocoDataset, read_json
from foveate.errors import DataError
from foveate.system.regular_files import file_digest

CLASS_NAMES = (
    "accessory",
    "animal",
    "appliance",
    "electronic",
    "food",
    "furniture",
    "indoor",
    "kitchen",
    "outdoor",
    "person",
    "plant",
    "sports",
    "vehicle",
)
"""The classes of pasted data sets: COCO's supercategories, and plants."""

# COCO counts potted plants as furniture.
_CLASS_OF = {"potted plant": "plant"}
_TRIES = 8  # places tried for an object before it is given up
_MIN_ALPHA = 0.5


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """Photographs on which objects of other photographs are pasted: ``Scenes``.

    Args:
        dataset: Photographs and their objects.
        category_ids: Category id, from 1, of each label of the data set.
        pasted: Rows of the objects that can be pasted, for each class that has any.
        options: Settings of the changes.
        seed: Seed of every draw.
    """

    dataset: CocoDataset
    category_ids: tuple[int, ...]
    pasted: tuple[NDArray[np.int64], ...]
    options: PasteOptions
    seed: int

    @classmethod
    def of(cls, dataset: CocoDataset, *, options: PasteOptions, seed: int) -> Photographs:
        """Return the photographs of a data set that have annotations.

        Raises:
            DataError: No image has an object, or a category has none of COCO's supercategories.
        """
        ids = category_ids(dataset)
        dataset = dataset.of_images(np.flatnonzero(np.diff(dataset.annotations.starts)))
        table = dataset.annotations
        if table.crowds.all():
            raise DataError(
                "no photograph has an object, crowds aside",
                file=dataset.file,
                remedy="outline some objects",
            )
        classes = np.array(ids)[table.labels]
        usable = _pasteable(dataset, options.smallest_side)
        groups = [np.flatnonzero(usable & (classes == number)) for number in sorted(set(ids))]
        return cls(
            dataset=dataset,
            category_ids=ids,
            pasted=tuple(group for group in groups if len(group)),
            options=options,
            seed=seed,
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of category ids, which start at 1."""
        return CLASS_NAMES

    @property
    def info(self) -> dict[str, Any]:
        """What determines the images."""
        return {
            "seed": self.seed,
            "options": asdict(self.options),
            "photographs": len(self.dataset),
            "annotations_sha256": file_digest(self.dataset.file),
        }

    def scene(self, index: int) -> Scene:
        """Draw an image; photographs take turns, so that each is seen equally often.

        An object of which several others together leave too little is annotated as a crowd, which
        is neither learned nor a mistake to find.
        """
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(index,)))
        number = index % len(self.dataset)
        photograph = self.dataset.image(number)
        image = change_light(photograph, self.options.objects.light, rng).astype(np.float32)
        objects = [self._placed(row) for row in self.dataset.rows(number).tolist()]
        if rng.uniform() < self.options.objects.flip:
            image = np.ascontiguousarray(image[:, ::-1])
            objects = [replace(one, mask=one.mask[:, ::-1]) for one in objects]
        whole = objects
        if rng.uniform() < self.options.share and self.pasted:
            fewest, most = self.options.objects.count
            for _ in range(int(rng.integers(fewest, most + 1))):
                objects = self._paste(image, objects, rng)
                whole = [*whole, *objects[len(whole) :]]
        return Scene(
            image=finish(image, self.options.finish, rng),
            objects=tuple(
                one if self._is_visible(one.mask, before) else replace(one, crowd=True)
                for one, before in zip(objects, whole, strict=True)
            ),
            background=Entry(path=self.dataset.path(number).name),
        )

    def _placed(self, row: int) -> Placed:
        table = self.dataset.annotations
        return Placed(
            entry=Entry(path=f"annotation/{table.ids[row]}"),
            category_id=self.category_ids[int(table.labels[row])],
            mask=table.mask(row).astype(bool),
            crowd=bool(table.crowds[row]),
        )

    def _paste(
        self, image: NDArray[np.float32], objects: list[Placed], rng: np.random.Generator
    ) -> list[Placed]:
        """Lay an object over an image, in place, where enough of every other remains visible."""
        options = self.options.objects
        group = self.pasted[int(rng.integers(len(self.pasted)))]
        row = int(group[rng.integers(len(group))])
        side = float(np.exp(rng.uniform(*np.log(options.larger_side))))
        layer = draw_layer(self._cut_out(row), side, options, rng)
        for _ in range(_TRIES):
            left, top = _place(layer, image.shape, rng)
            covered = _covered(layer, left, top, image.shape)
            left_over = [one.mask & ~covered for one in objects]
            if covered.sum() >= options.min_visible_area and all(
                self._is_visible(rest, one) for one, rest in zip(objects, left_over, strict=True)
            ):
                lay_over(image, layer, left, top)
                kept = [replace(one, mask=m) for one, m in zip(objects, left_over, strict=True)]
                return [*kept, replace(self._placed(row), mask=covered)]
        return objects

    def _is_visible(self, mask: NDArray[np.bool_], before: Placed) -> bool:
        """Return whether enough of an object is left; of a crowd anything is."""
        least = self.options.objects.min_visible_share * before.mask.sum()
        return before.crowd or bool(mask.sum() >= least)

    def _cut_out(self, row: int) -> Cutout:
        table = self.dataset.annotations
        number, mask = int(table.images[row]), table.mask(row)
        x, y, width, height = np.asarray(table.boxes[row]).round().astype(int).tolist()
        part = (slice(y, y + height + 1), slice(x, x + width + 1))
        rgba = np.dstack([self.dataset.image(number)[part], mask[part] * np.uint8(255)])
        return Cutout(entry=Entry(path=f"annotation/{table.ids[row]}"), image=rgba)


@dataclass(frozen=True, kw_only=True)
class Relabeled:
    """Photographs with the classes of ``CLASS_NAMES``, such as those of a validation part.

    Args:
        dataset: Photographs and their objects.
        category_ids: Category id, from 1, of each label of the data set.
    """

    dataset: CocoDataset
    category_ids: tuple[int, ...]

    @classmethod
    def of(cls, dataset: CocoDataset) -> Relabeled:
        """Return the photographs of a data set in COCO's layout.

        Raises:
            DataError: A category has none of COCO's supercategories.
        """
        return cls(dataset=dataset, category_ids=category_ids(dataset))

    def write(self, output: Path) -> None:
        """Write `annotations.json` and `images/` to a directory that does not exist yet.

        The files of the images are copied. Boxes, areas, masks and crowds stay as annotated, and so
        do images without objects; masks are run-length encoded.
        """
        table = self.dataset.annotations
        for index, name in enumerate(table.files):
            target = output / "images" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.dataset.path(index), target)
        content = {
            "info": {"description": "relabeled by the recipe of mini"},
            "categories": categories(CLASS_NAMES),
            "images": [
                {"id": int(number), "file_name": name, "width": int(width), "height": int(height)}
                for number, name, (height, width) in zip(
                    table.image_ids, table.files, table.sizes, strict=True
                )
            ],
            "annotations": [self._annotation(row) for row in range(len(table))],
        }
        text = json.dumps(content, separators=(",", ":"))
        (output / "annotations.json").write_text(text, encoding="utf-8")

    def _annotation(self, row: int) -> dict[str, Any]:
        table = self.dataset.annotations
        return {
            "id": int(table.ids[row]),
            "image_id": int(table.image_ids[table.images[row]]),
            "category_id": self.category_ids[int(table.labels[row])],
            "segmentation": segmentation(table.rle(row)),
            "area": float(table.areas[row]),
            "bbox": table.boxes[row].tolist(),
            "iscrowd": int(table.crowds[row]),
        }


def category_ids(dataset: CocoDataset) -> tuple[int, ...]:
    """Return the category id, from 1 in ``CLASS_NAMES``, of each label of a data set.

    Raises:
        DataError: A category has none of COCO's supercategories.
    """
    remedy = "use annotations in the form of COCO 2017"
    if dataset.file.is_dir():
        what = f"the layout {dataset.layout} has no supercategories"
        raise DataError(what, file=dataset.file, remedy=remedy)
    content = read_json(dataset.file, remedy=remedy)
    groups = {one["name"]: one.get("supercategory") for one in content["categories"]}
    ids = []
    for name in dataset.class_names:
        own = _CLASS_OF.get(name, groups[name])
        if own not in CLASS_NAMES:
            raise DataError(
                f"the category {name!r} has the supercategory {own!r}, expected one of "
                f"{', '.join(CLASS_NAMES)}",
                file=dataset.file,
                remedy=remedy,
            )
        ids.append(CLASS_NAMES.index(own) + 1)
    return tuple(ids)


def _pasteable(dataset: CocoDataset, smallest_side: int) -> NDArray[np.bool_]:
    """Return for each object whether it is large enough, and the edge does not cut it."""
    table = dataset.annotations
    low, high = table.boxes[:, :2], table.boxes[:, :2] + table.boxes[:, 2:]
    sizes = table.sizes[table.images][:, ::-1]
    inside = (low >= 1).all(axis=1) & (high <= sizes - 1).all(axis=1)
    large = table.boxes[:, 2:].max(axis=1) >= smallest_side
    return np.asarray(inside & large & ~table.crowds, bool)


def _place(layer: Layer, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
    """Draw column and row of a layer, of which the edge of the image cuts a quarter at most."""
    top, left = (
        int(rng.integers(-(size // 4), max(1 - size // 4, room - 3 * size // 4)))
        for size, room in zip(layer.alpha.shape, shape, strict=False)
    )
    return left, top


def _covered(layer: Layer, left: int, top: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels of an image that a layer hides: (H, W) bool."""
    covered = np.zeros(shape[:2], bool)
    meeting = overlap(layer.alpha.shape, left, top, shape)
    if meeting is not None:
        own, target = meeting
        covered[target] = layer.alpha[own] > _MIN_ALPHA
    return covered
