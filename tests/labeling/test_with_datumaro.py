# SPDX-License-Identifier: Apache-2.0
"""Files for CVAT and COCO, imported by datumaro, with which CVAT converts data sets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.labeling.test_formats import APART, in_parts
from tests.results.test_polygons import iou

from foveate.datasets import detections_from_cvat
from foveate.labeling import CocoLabels, CvatLabels, label_objects

datumaro = pytest.importorskip("datumaro", reason="needs the package datumaro")


@pytest.mark.parametrize(
    ("kind", "name", "labels"),
    [
        ("cvat", "annotations.xml", CvatLabels),
        ("coco_instances", "annotations/instances_default.json", CocoLabels),
    ],
)
def test_datumaro_imports_the_objects_and_draws_the_masks(
    kind: str, name: str, labels: type[CocoLabels | CvatLabels], tmp_path: Path
) -> None:
    from datumaro.util.mask_tools import rle_to_mask, rles_to_mask

    (tmp_path / "images").mkdir()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    cv2.imwrite(str(tmp_path / "images" / "a.jpg"), np.full((90, 120, 3), 99, np.uint8))
    found = in_parts()
    document = labels(found.class_names)
    document.add("a.jpg", 90, 120, label_objects(found, APART))
    (tmp_path / name).write_text(document.to_text())
    (item,) = datumaro.Dataset.import_from(str(tmp_path), kind)
    assert item.media.size == (90, 120)
    polygons = [one for one in item.annotations if one.type.name == "polygon"]
    polygons.sort(key=lambda one: -one.label)
    assert [one.label for one in polygons] == [1, 1, 0]
    assert polygons[0].group == polygons[1].group != polygons[2].group
    for mask, parts in zip(found.masks, (polygons[:2], polygons[2:]), strict=True):
        code = rles_to_mask([part.points for part in parts], 120, 90)
        drawn = np.asarray(code if isinstance(code, np.ndarray) else rle_to_mask(code))
        assert iou(drawn.astype(bool), mask) >= 0.98


def test_what_datumaro_exports_for_cvat_is_read(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.jpg"), np.full((90, 120, 3), 99, np.uint8))
    found = in_parts()
    (tmp_path / "annotations.xml").write_text(found.to_cvat("a.jpg"))
    dataset = datumaro.Dataset.import_from(str(tmp_path), "cvat")
    dataset.export(str(tmp_path / "again"), "cvat")
    (file,) = (tmp_path / "again").glob("*.xml")
    again = detections_from_cvat(file, class_names=found.class_names)
    again = again[np.argsort(-again.labels)]
    assert again.names == found.names
    assert min(map(iou, again.masks, found.masks)) >= 0.98
