# SPDX-License-Identifier: Apache-2.0
"""COCO-format data sets: read once, checked record by record, masks decoded when asked for.

::

    CocoDataset(Path("data/mini/train"))                     # annotations.json and pictures/
    CocoDataset(Path("coco/train2017"), annotations=Path("coco/annotations/instances_train2017.json"))
"""

from __future__ import annotations

from foveate.training.dataset.annotations import Annotations
from foveate.training.dataset.coco import CocoDataset, Instance
from foveate.training.dataset.problems import Problems, Reason
from foveate.training.dataset.reader import read_annotations, read_content

__all__ = [
    "Annotations",
    "CocoDataset",
    "Instance",
    "Problems",
    "Reason",
    "read_annotations",
    "read_content",
]
