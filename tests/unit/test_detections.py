# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from foveate.cli._coco import CocoDocument
from foveate.detections import Detection, Detections, Masks, Proposal, Proposals

# pycocotools 2.0.11 decodes in a way that numpy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEIGHT, WIDTH = 60, 80


def masks_of(count: int) -> Masks:
    rows, columns = np.mgrid[:32, :32]
    disc = (10 - np.hypot(rows - 15.5, columns - 15.5)).astype(np.float32)
    geometry = np.array([[8 * i, 4 * i, 32, 32] for i in range(count)], np.float32).reshape(-1, 4)
    logits = np.repeat(disc[None], count, axis=0)
    return Masks(logits, geometry, np.arange(count), threshold=0, height=HEIGHT, width=WIDTH)


def detections_of(count: int = 3) -> Detections:
    lefts = np.arange(count, dtype=np.float32) * 8
    boxes = np.stack([lefts + 5, lefts / 2 + 5, lefts + 25.5, lefts / 2 + 26], axis=1)
    return Detections(
        boxes=boxes.astype(np.float32),
        scores=np.linspace(0.9, 0.6, count).astype(np.float32),
        labels=np.arange(count) % 2,
        class_names=("cat", "dog"),
        masks=masks_of(count),
        proposals=np.arange(count),
    )


def test_indexing_gives_one_or_fewer() -> None:
    detections = detections_of()
    one = detections[1]
    assert isinstance(one, Detection)
    assert (one.name, one.label) == ("dog", 1)
    assert one.score == pytest.approx(0.75)
    assert one.mask.shape == (HEIGHT, WIDTH)
    assert len(detections[:2]) == 2
    assert detections[detections.labels == 0].names == ["cat", "cat"]
    assert len(detections[np.array([], int)]) == 0
    with pytest.raises(IndexError):
        detections[3]


def test_iteration_and_repr() -> None:
    detections = detections_of(7)
    assert [one.name for one in detections] == detections.names
    text = repr(detections)
    assert text.startswith("Detections(7 in 80 x 60: cat 0.90, dog 0.85")
    assert text.endswith(", ...)")
    assert repr(detections[0]) == "Detection('cat', score=0.900, box=(5.0, 5.0, 25.5, 26.0))"


def test_proposals_have_no_names() -> None:
    full = detections_of()
    proposals = Proposals(boxes=full.boxes, scores=full.scores, masks=full.masks)
    assert isinstance(proposals[0], Proposal)
    assert [one.score for one in proposals] == pytest.approx(full.scores)
    assert repr(proposals) == "Proposals(3 in 80 x 60)"
    assert {entry["category_id"] for entry in proposals[1:].to_coco(4)} == {1}
    assert proposals.draw(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).any()


def test_coco_results_have_boxes_by_size_and_categories_from_one() -> None:
    entry = detections_of().to_coco(7)[1]
    assert entry["image_id"] == 7
    assert entry["category_id"] == 2
    assert entry["bbox"] == [13.0, 9.0, 20.5, 21.0]
    assert entry["score"] == pytest.approx(0.75)
    decoded = coco_mask.decode(entry["segmentation"]).astype(bool)
    assert np.array_equal(decoded, detections_of().masks[1])


def test_the_document_is_read_by_pycocotools(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = CocoDocument(("cat", "dog"))
    document.add("a.jpg", detections_of(3))
    document.add("nothing.jpg", detections_of(0))
    document.add("b.jpg", detections_of(1))
    path = tmp_path / "found.json"
    path.write_text(document.to_json())
    truth = COCO(str(path))
    assert sorted(truth.getImgIds()) == [1, 2, 3]
    assert [c["name"] for c in truth.loadCats([1, 2])] == ["cat", "dog"]
    entries = truth.loadAnns(truth.getAnnIds(imgIds=[1]))
    assert [entry["id"] for entry in entries] == [1, 2, 3]
    for entry, mask in zip(entries, detections_of(3).masks, strict=True):
        assert np.array_equal(truth.annToMask(entry).astype(bool), mask)
        assert entry["area"] == mask.sum()
        assert entry["iscrowd"] == 0
    # `annotations` alone is a results list.
    results = truth.loadRes(copy.deepcopy(json.loads(path.read_text())["annotations"]))
    assert len(results.getAnnIds()) == 4
    capsys.readouterr()
