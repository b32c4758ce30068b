# SPDX-License-Identifier: Apache-2.0
"""Photographs whose only change is that of their classes."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compose.dataset import categories
from compose.photographs import CLASS_NAMES, category_ids
from foveate.datasets import CocoDataset


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
        code = table.rle(row)
        return {
            "id": int(table.ids[row]),
            "image_id": int(table.image_ids[table.images[row]]),
            "category_id": self.category_ids[int(table.labels[row])],
            "segmentation": {"size": list(code["size"]), "counts": code["counts"].decode("ascii")},
            "area": float(table.areas[row]),
            "bbox": table.boxes[row].tolist(),
            "iscrowd": int(table.crowds[row]),
        }
