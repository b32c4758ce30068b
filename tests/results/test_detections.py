# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from foveate.errors import OptionError
from foveate.results.coco import CocoDocument
from foveate.results.detections import Detection, Detections, Proposal, Proposals
from foveate.results.window_masks import WindowMasks

# pycocotools 2.0.11 decodes in a way that numpy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEIGHT, WIDTH = 60, 80


def masks_of(count: int) -> WindowMasks:
    rows, columns = np.mgrid[:32, :32]
    disc = (10 - np.hypot(rows - 15.5, columns - 15.5)).astype(np.float32)
    geometry = np.array([[8 * i, 4 * i, 32, 32] for i in range(count)], np.float32).reshape(-1, 4)
    logits = np.repeat(disc[None], count, axis=0)
    return WindowMasks(logits, geometry, np.arange(count), threshold=0, height=HEIGHT, width=WIDTH)


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


def proposals_of(count: int = 3) -> Proposals:
    found = detections_of(count)
    return Proposals(boxes=found.boxes, scores=found.scores, masks=found.masks)


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
    assert repr(detections[:0]) == "Detections(0 in 80 x 60)"


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
    path.write_text(document.to_text())
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


@pytest.mark.parametrize(
    "index",
    [
        [0, 2],
        np.array([0, 2]),
        np.array([0, 2], np.uint8),
        np.array([True, False, True]),
        [True, False, True],
        slice(0, 3, 2),
    ],
)
@pytest.mark.parametrize("kind", [detections_of, proposals_of])
def test_lists_arrays_and_slices_select_some(
    kind: Callable[[], Detections | Proposals], index: Any
) -> None:
    whole, some = kind(), kind()[index]
    assert len(some) == len(some.masks) == 2
    assert np.array_equal(some.boxes, whole.boxes[[0, 2]])
    assert np.array_equal(np.asarray(some.masks), np.asarray(whole.masks)[[0, 2]])


@pytest.mark.parametrize("index", [-1, 2, np.int64(2), np.array(2), np.uint8(2)])
@pytest.mark.parametrize("kind", [detections_of, proposals_of])
def test_integers_of_every_kind_give_one(
    kind: Callable[[], Detections | Proposals], index: Any
) -> None:
    one = kind()[index]
    assert isinstance(one, Proposal)
    assert one.score == pytest.approx(0.6)


@pytest.mark.parametrize("index", ["a", None, True, 1.0, (0, 1), [0.5], [[0]], {}, object()])
@pytest.mark.parametrize("kind", [detections_of, proposals_of])
def test_other_indices_are_refused_by_name(
    kind: Callable[[], Detections | Proposals], index: Any
) -> None:
    with pytest.raises(TypeError, match="expected an integer, a slice, or a 1-D array"):
        kind()[index]


@pytest.mark.parametrize("index", [3, -4, [3], np.array([True])])
@pytest.mark.parametrize("kind", [detections_of, proposals_of])
def test_an_index_out_of_range_is_an_index_error(
    kind: Callable[[], Detections | Proposals], index: Any
) -> None:
    with pytest.raises(IndexError):
        kind()[index]


@pytest.mark.parametrize("score", [50, -0.1, float("nan")])
@pytest.mark.parametrize("kind", [detections_of, proposals_of])
def test_a_score_that_none_can_have_is_refused(
    kind: Callable[[], Detections | Proposals], score: float
) -> None:
    with pytest.raises(OptionError, match=rf"^score must lie in 0\.\.1, found {score}$"):
        kind().filter(score=score)


def test_an_empty_list_selects_none() -> None:
    assert len(detections_of()[[]].masks) == 0


def test_a_tensor_of_pytorch_selects_as_an_array_does() -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    assert detections_of()[torch.tensor([0])].names == ["cat"]
    assert isinstance(detections_of()[torch.tensor(1)], Detection)


@pytest.mark.parametrize("image_id", [7, np.int64(7), np.uint8(7), np.array(7)])
@pytest.mark.parametrize("kind", [detections_of, proposals_of])
def test_results_are_json_whatever_kind_of_integer_the_image_has(
    kind: Callable[[], Detections | Proposals], image_id: Any
) -> None:
    assert json.loads(json.dumps(kind().to_coco(image_id)))[0]["image_id"] == 7
