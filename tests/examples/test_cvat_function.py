# SPDX-License-Identifier: Apache-2.0
"""The auto-annotation function of the example, checked by cvat-sdk as it checks any function."""

from __future__ import annotations

import importlib.util
import logging
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
import pytest
from pycocotools import mask as coco_mask
from tests.samples.paths import CAT, ROOT

import foveate

cvataa = pytest.importorskip("cvat_sdk.auto_annotation", reason="needs the package cvat-sdk")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("f", ROOT / "examples" / "cvat_function.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def detect(function: Any, *, polygons: bool = False, score: float | None = None) -> list[Any]:
    """Return the shapes, after the checks that cvat-sdk makes before it uploads them."""
    from cvat_sdk import models
    from cvat_sdk.auto_annotation import driver

    labels = [
        models.Label(name=label.name, id=100 + label.id, type="any", attributes=[], sublabels=[])
        for label in function.spec.labels
    ]
    mapper = driver._AnnotationMapper(
        logging.getLogger(),
        function.spec.labels,
        labels,
        allow_unmatched_labels=False,
        conv_mask_to_poly=polygons,
    )
    context = driver._DetectionFunctionContextImpl(
        frame_name="cat.jpg", conf_threshold=score, conv_mask_to_poly=polygons
    )
    _, shapes = mapper.validate_and_remap(function.detect(context, PIL.Image.open(CAT)), 7)
    return list(shapes)


def test_cvat_gets_a_mask_per_detection(example: ModuleType) -> None:
    from cvat_sdk.masks import decode_mask

    found = foveate.load("mini")(CAT)
    shapes = detect(example.create())
    _, height, width = found.masks.shape
    assert len(shapes) == len(found) > 0
    assert [shape.label_id - 100 for shape in shapes] == found.labels.tolist()
    assert {(shape.type.value, shape.frame) for shape in shapes} == {("mask", 7)}
    for shape, mask in zip(shapes, found.masks, strict=True):
        drawn = decode_mask(shape.points, image_width=width, image_height=height)
        assert np.array_equal(drawn, mask)


def test_cvat_gets_polygons_of_proposals_where_it_asks_for_them(example: ModuleType) -> None:
    found = foveate.load("mini").propose(CAT).filter(score=0.4)
    shapes = detect(example.create(label="thing"), polygons=True, score=0.4)
    assert {(shape.type.value, shape.label_id) for shape in shapes} == {("polygon", 100)}
    _, height, width = found.masks.shape
    codes = coco_mask.frPyObjects([shape.points for shape in shapes], height, width)
    drawn = np.asarray(coco_mask.decode(coco_mask.merge(codes))).astype(bool)
    union = np.asarray(found.masks).any(0)
    assert (drawn & union).sum() >= 0.98 * (drawn | union).sum()
