# SPDX-License-Identifier: Apache-2.0
"""Choosing results, saving them, and showing them; conversions to other packages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from tests.results.test_detections import HEIGHT, WIDTH, detections_of, proposals_of

from foveate.errors import BackendError, InputError, OptionError
from foveate.images.reading import read_image
from foveate.results.detections import Detections, Proposals
from foveate.results.run_masks import RunMasks
from foveate.results.window_masks import WindowMasks

# pycocotools 2.0.11 decodes in a way that numpy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

KINDS = pytest.mark.parametrize("kind", [detections_of, proposals_of])


def test_detections_are_chosen_by_score_and_by_class() -> None:
    detections = detections_of(5)  # scores 0.9, 0.825, 0.75, 0.675, 0.6; cat and dog in turn
    assert detections.filter(score=0.75).scores.tolist() == detections.scores[:3].tolist()
    assert detections.filter(classes="dog").proposals.tolist() == [1, 3]
    assert detections.filter(classes=[0]).proposals.tolist() == [0, 2, 4]
    assert detections.filter(classes=np.int64(1)).proposals.tolist() == [1, 3]
    assert detections.filter(score=0.7, classes={"cat"}).proposals.tolist() == [0, 2]
    assert len(detections.filter(classes=("cat", 1))) == 5
    assert len(detections.filter(classes=[])) == 0
    assert len(detections.filter()) == 5


def test_proposals_are_chosen_by_score() -> None:
    assert proposals_of(5).filter(score=0.7).scores.tolist() == pytest.approx([0.9, 0.825, 0.75])


@pytest.mark.parametrize("wrong", ["horse", 2, -1, True, 1.0])
@pytest.mark.parametrize("alone", [True, False])
def test_an_unknown_class_is_an_error_with_the_list(wrong: Any, alone: bool) -> None:
    with pytest.raises(OptionError) as caught:
        detections_of().filter(classes=wrong if alone else ["cat", wrong])
    assert str(caught.value) == (
        f"the class {wrong!r} is unknown, expected an index below 2 or one of cat, dog: "
        "correct the name"
    )


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda one: one.filter(score="0.5"), r"^score must be a number, found '0\.5'$"),
        (lambda one: one.filter(score=None), "^score must be a number, found None$"),
        (lambda one: one.filter(score=True), "^score must be a number, found True$"),
        (lambda one: one.to_coco("7"), "^image_id must be an integer, found '7'$"),
        (lambda one: one.to_coco(7.0), r"^image_id must be an integer, found 7\.0$"),
        (lambda one: one.to_labelme("a.jpg", tolerance="1"), "^tolerance must be a number, found"),
        (lambda one: one.to_cvat("a.jpg", tolerance=None), "^tolerance must be a number, found"),
        (lambda one: one.to_labelme(7), "^image must be a path, found int$"),
        (lambda one: one.to_cvat(b"a.jpg"), "^image must be a path, found bytes$"),
        (lambda one: one.save(7, "a.jpg"), "^path must be a path, found int$"),
        (lambda one: one.save(None, "a.jpg"), "^path must be a path, found NoneType$"),
    ],
)
@KINDS
def test_an_argument_of_another_type_is_refused(
    kind: Callable[[], Detections | Proposals], use: Callable[[Any], object], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        use(kind())


def test_a_notebook_shows_a_table_with_escaped_names() -> None:
    found = detections_of(2)
    named = Detections(**{**vars(found), "class_names": ("<b>cat</b>", "a\x1b&b")})
    text = named._repr_html_()
    assert "<b>" not in text
    assert "<td>&lt;b&gt;cat&lt;/b&gt;</td><td>0.900</td><td>5.0</td>" in text
    assert r"<td>a\x1b&amp;b</td><td>0.600</td>" in text
    assert text.count("<tr>") == 3
    assert "rgb(255,115,94)" in text  # the color of the first object in an overlay


def test_a_long_table_ends_with_the_number_of_further_rows() -> None:
    text = proposals_of(23)._repr_html_()
    assert text.startswith("<p>Proposals(23 in 80 x 60)</p><table>")
    assert text.count("<tr>") == 21
    assert text.endswith("<p>and 3 more</p>")
    assert "class" not in text


@KINDS
def test_results_are_saved_as_a_coco_document(
    kind: Callable[[], Detections | Proposals], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, path = kind(), tmp_path / "found.JSON"
    found.save(path, "images/a.jpg")
    truth = COCO(str(path))
    (image,) = truth.loadImgs([1])
    assert (image["file_name"], image["height"], image["width"]) == ("images/a.jpg", HEIGHT, WIDTH)
    names = [category["name"] for category in truth.loadCats(truth.getCatIds())]
    assert names == (["cat", "dog"] if isinstance(found, Detections) else ["object"])
    masks = [truth.annToMask(entry) for entry in truth.loadAnns(truth.getAnnIds())]
    assert np.array_equal(np.array(masks, bool), np.asarray(found.masks))
    capsys.readouterr()


@KINDS
def test_results_are_saved_as_an_overlay(
    kind: Callable[[], Detections | Proposals], tmp_path: Path
) -> None:
    image = np.full((HEIGHT, WIDTH, 3), (10, 20, 200), np.uint8)
    kind().save(tmp_path / "overlay.png", image)
    assert np.array_equal(read_image(tmp_path / "overlay.png"), kind().draw(image))
    kind().save(tmp_path / "overlay.jpg", image)
    assert read_image(tmp_path / "overlay.jpg").shape == (HEIGHT, WIDTH, 3)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"the suffix '.txt' is unknown, expected .json, .jpg"):
        detections_of().save(tmp_path / "found.txt", "a.jpg")
    with pytest.raises(OptionError, match="names its image, found ndarray: pass the path"):
        detections_of().save(tmp_path / "found.json", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(InputError, match="there is no such file"):
        detections_of().save(tmp_path / "found.png", tmp_path / "missing.jpg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(2, 65_501), (65_501, 2)])
def test_an_overlay_that_is_too_long_for_a_jpeg_is_refused(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    height, width = shape
    image, nothing = np.zeros((*shape, 3), np.uint8), np.zeros((0, 4), np.float32)
    masks = RunMasks([], height=height, width=width)
    found = Proposals(boxes=nothing, scores=nothing[:, 0], masks=masks)
    message = f"at most 65500 pixels per side, the image has {width} x {height}: save"
    with pytest.raises(OptionError, match=message):
        found.save(tmp_path / "overlay.jpg", image)
    found.save(tmp_path / "overlay.png", image)
    assert read_image(tmp_path / "overlay.png").shape == image.shape


def test_the_runs_of_a_crop_are_those_of_its_pixels() -> None:
    geometry = np.array([[-6, 3, 30, 28], [70, 40, 32, 32], [200, 90, 9, 9]], np.float32)
    logits = np.random.default_rng(0).standard_normal((3, 16, 16)).astype(np.float32)
    masks = WindowMasks(logits, geometry, np.arange(3), threshold=0.3, height=HEIGHT, width=WIDTH)
    for index, mask in enumerate(masks):
        counts, (top, left, height, width) = masks.crop_runs(index)
        assert counts.dtype == np.int32
        pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        crop = pixels.reshape(width, height).T
        assert np.array_equal(crop, mask[top : top + height, left : left + width])
        assert crop.sum() == mask.sum()
    assert masks.crop_runs(2)[1] == (0, 0, 1, 1)  # outside of the image


def test_supervision_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = "run: pip install --upgrade 'supervision>=0.28'"
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(BackendError) as caught:
        detections_of().to_supervision()
    assert str(caught.value) == f"the package supervision is not installed: {remedy}"
    old = ModuleType("supervision")
    old.__dict__["__version__"] = "0.27.0"
    monkeypatch.setitem(sys.modules, "supervision", old)
    with pytest.raises(BackendError) as caught:
        proposals_of().to_supervision()
    assert str(caught.value) == f"supervision 0.28 or later is needed, found 0.27.0: {remedy}"
