# SPDX-License-Identifier: Apache-2.0
"""Data sets in the form of COCO or labelme: checked record by record, masks decoded on request.

::

    find_splits(Path("data/mini")).train                     # any of LAYOUTS
    CocoDataset(Path("data/mini/train"))                     # one part
    CocoDataset(find_parts(Path("coco"))["train"])
"""

from foveate.datasets.annotations import Annotations, Problems, Reason
from foveate.datasets.coco import CocoDataset, Instance
from foveate.datasets.fields import read_json
from foveate.datasets.layouts import LAYOUTS, Source, find_parts, find_source
from foveate.datasets.reader import read_annotations
from foveate.datasets.results import (
    detections_from_coco,
    detections_from_cvat,
    detections_from_labelme,
)
from foveate.datasets.splits import Splits, find_splits

__all__ = [
    "LAYOUTS",
    "Annotations",
    "CocoDataset",
    "Instance",
    "Problems",
    "Reason",
    "Source",
    "Splits",
    "detections_from_coco",
    "detections_from_cvat",
    "detections_from_labelme",
    "find_parts",
    "find_source",
    "find_splits",
    "read_annotations",
    "read_json",
]
