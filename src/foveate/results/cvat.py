# SPDX-License-Identifier: Apache-2.0
"""Annotations of CVAT in its format "CVAT for images 1.1": one XML file for all images."""

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from foveate.plain_text import portable_name, printable
from foveate.results.labeled import LabeledObject


class CvatLabels:
    """Annotations of a task, whose frames are matched by the names of the images.

    Each part of an object is a polygon. The polygons of an object with several parts are a group.
    Each has an attribute ``score``, which CVAT ignores unless its label has it too.

    Args:
        class_names: Names of the labels.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._images: list[str] = []

    def __len__(self) -> int:
        return len(self._images)

    def add(self, name: str, height: int, width: int, objects: Sequence[LabeledObject]) -> None:
        """Add an image by its file name."""
        size = {"width": str(width), "height": str(height)}
        name = printable(portable_name(name))  # XML has no control characters
        image = ET.Element("image", {"id": str(len(self._images)), "name": name, **size})
        for number, one in enumerate(objects, 1):
            group = {"group_id": str(number)} if len(one.polygons) > 1 else {}
            for polygon in one.polygons:
                points = ";".join(f"{x:.1f},{y:.1f}" for x, y in polygon.tolist())
                kind = {"label": printable(one.label), "source": "auto", "occluded": "0"}
                shape = ET.SubElement(
                    image, "polygon", {**kind, "points": points, "z_order": "0", **group}
                )
                ET.SubElement(shape, "attribute", {"name": "score"}).text = f"{one.score:.4f}"
        ET.indent(image, level=1)
        self._images.append(ET.tostring(image, encoding="unicode"))

    def to_text(self) -> str:
        """Return the content of the file."""
        meta = ET.Element("meta")
        labels = ET.SubElement(ET.SubElement(meta, "task"), "labels")
        for name in self._class_names:
            label = ET.SubElement(labels, "label")
            ET.SubElement(label, "name").text = printable(name)
            ET.SubElement(label, "attributes")
        ET.indent(meta, level=1)
        body = [ET.tostring(meta, encoding="unicode").rstrip(), *self._images]
        lines = "\n".join(f"  {part.rstrip()}" for part in body)
        head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>'
        return f"{head}\n{lines}\n</annotations>\n"
