# SPDX-License-Identifier: Apache-2.0
"""Annotations that a network makes, as polygons in the files of annotation tools, for people to correct."""

from foveate.labeling.coco import CocoLabels
from foveate.labeling.objects import LabelOptions, label_objects
from foveate.results.cvat import CvatLabels
from foveate.results.labeled import LabeledObject
from foveate.results.labelme import labelme_json

__all__ = [
    "CocoLabels",
    "CvatLabels",
    "LabelOptions",
    "LabeledObject",
    "label_objects",
    "labelme_json",
]
