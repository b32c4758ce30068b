# SPDX-License-Identifier: Apache-2.0
"""Files for labelme, read and drawn by the package labelme itself."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.labeling.test_formats import APART, in_parts
from tests.results.test_polygons import iou

from foveate.datasets import detections_from_labelme
from foveate.labeling import label_objects, labelme_json

label_file = pytest.importorskip("labelme._label_file", reason="needs the package labelme")


def test_labelme_reads_the_objects_and_draws_the_masks(tmp_path: Path) -> None:
    from labelme.utils import shape_to_mask, shapes_to_label

    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((90, 120, 3), 99, np.uint8))
    (tmp_path / "labels").mkdir()
    path = tmp_path / "labels" / "a.json"
    found = in_parts()
    path.write_text(labelme_json("../a.jpg", 90, 120, label_objects(found, APART)))
    file = label_file.LabelFile(str(path))
    assert file.image_path == "../a.jpg"
    assert file.image_data == (tmp_path / "a.jpg").read_bytes()
    assert [shape["other_data"] for shape in file.shapes] == [{"score": 0.8}] * 2 + [{"score": 0.7}]
    drawn = [shape_to_mask((90, 120), s["points"], s["shape_type"]) for s in file.shapes]
    for mask, parts in zip(found.masks, (drawn[:2], drawn[2:]), strict=True):
        assert iou(np.any(parts, axis=0), mask) >= 0.98
    _, instances = shapes_to_label((90, 120), file.shapes, {"dog & <b>": 1, "cat": 2})
    assert np.unique(instances).tolist() == [0, 1, 2]  # the parts of the ring are one object


def test_what_labelme_saves_is_read(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((90, 120, 3), 99, np.uint8))
    path, found = tmp_path / "a.json", in_parts()
    path.write_text(found.to_labelme("a.jpg"))
    file = label_file.LabelFile(str(path))
    shapes = [{**shape.pop("other_data"), **shape} for shape in file.shapes]
    corners = [[20, 10], [30, 20], [20, 30], [10, 20]]
    drawn = {"label": "cat", "shape_type": "oriented_rectangle", "points": corners}
    file.save(str(path), [*shapes, drawn], "a.jpg", 90, 120, file.image_data)
    again = detections_from_labelme(path, class_names=found.class_names)
    assert again.names == ["cat", "dog & <b>", "cat"]
    np.testing.assert_allclose(again.scores, [1, 0.8, 0.7], atol=1e-4)
    np.testing.assert_allclose(again.boxes[0], [10, 10, 30, 30], atol=1)
    assert min(map(iou, again.masks[1:], found.masks)) >= 0.98


@pytest.mark.parametrize("place", [(0, 0), (5, 7), (2, 3)])
def test_labelme_draws_a_single_pixel(place: tuple[int, int]) -> None:
    from labelme.utils import shape_to_mask
    from tests.results.test_polygons import masks_of

    from foveate.results.polygons import mask_polygons

    pixels = np.zeros((6, 8), bool)
    pixels[place] = True
    (polygon,) = mask_polygons(masks_of(pixels), 0, 1.0)
    assert np.array_equal(shape_to_mask((6, 8), polygon.tolist(), "polygon"), pixels)
