# SPDX-License-Identifier: Apache-2.0
"""Annotations that a network makes, as polygons in the files of annotation tools, for people to correct."""

from foveate.labeling.coco import CocoLabels
from foveate.labeling.cvat import CvatLabels
from foveate.labeling.labelme import labelme_json
from foveate.labeling.objects import LabeledObject, LabelOptions, label_objects

__all__ = [
    "CocoLabels",
    "CvatLabels",
    "LabelOptions",
    "LabeledObject",
    "label_objects",
    "labelme_json",
]
