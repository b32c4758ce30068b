# SPDX-License-Identifier: Apache-2.0
"""Results that were saved in the form of COCO are detections again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.results.test_detections import HEIGHT, WIDTH, detections_of

from foveate.datasets import detections_from_coco
from foveate.errors import DataError
from foveate.results.detections import Detections

# pycocotools 2.0.11 decodes in a way that numpy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def read(entries: list[dict[str, Any]], categories: Any = ("cat", "dog")) -> Detections:
    return detections_from_coco(entries, height=HEIGHT, width=WIDTH, categories=categories)


def test_results_come_back_as_they_were() -> None:
    found = detections_of(4)
    again = read(found.to_coco(1)[::-1])  # in another order
    assert np.array_equal(again.boxes, found.boxes)
    assert np.array_equal(again.scores, found.scores)
    assert np.array_equal(again.labels, found.labels)
    assert again.names == found.names
    assert np.array_equal(np.asarray(again.masks), np.asarray(found.masks))
    assert again.masks.rle() == found.masks.rle()
    assert again.to_coco(1) == found.to_coco(1)
    some = again[[3, 1]]
    assert np.array_equal(np.asarray(some.masks), np.asarray(found.masks)[[3, 1]])
    assert np.array_equal(again[1:].masks[-1], found.masks[-1])
    assert again.draw(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).any()


def test_a_saved_document_comes_back(tmp_path: Path) -> None:
    detections_of(3).save(tmp_path / "found.json", "a.jpg")
    document = json.loads((tmp_path / "found.json").read_text())
    names = {entry["id"]: entry["name"] for entry in document["categories"]}
    again = read(document["annotations"], names)
    assert np.array_equal(np.asarray(again.masks), np.asarray(detections_of(3).masks))


def test_annotations_may_have_polygons_and_no_score_or_box() -> None:
    square = {"category_id": 9, "segmentation": [[10, 20, 30, 20, 30, 25, 10, 25]]}
    (one,) = read([square], {7: "cat", 9: "dog"})
    assert (one.name, one.label, one.score) == ("dog", 1, 1)
    assert one.box.tolist() == [10, 20, 30, 25]
    assert one.mask[20:25, 10:30].all()
    assert one.mask.sum() == 100


def test_no_entry_is_no_detection() -> None:
    again = read([])
    assert len(again) == 0
    assert again.masks.shape == (0, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"category_id": 3}, r"entry 1 cannot be used \(KeyError: 3\): expected category_id"),
        ({"segmentation": {"size": [9, 9], "counts": "d"}}, r"its size is \[9, 9\]"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "d0"}}, "covers 20 pixels, not 4800"),
        ({"segmentation": 5}, "it is of type int"),
        ({"bbox": [1, 2]}, "not enough values to unpack"),
        ({"score": "high"}, "'high' is not a finite number"),
    ],
)
def test_an_entry_that_cannot_be_used_is_an_error(change: dict[str, Any], text: str) -> None:
    entries = detections_of(2).to_coco(1)
    entries[1].update(change)
    with pytest.raises(DataError, match=text):
        read(entries)
