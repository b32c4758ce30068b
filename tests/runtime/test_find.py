# SPDX-License-Identifier: Apache-2.0
"""Proposals and detections of one run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.samples.images import square_image

import foveate
from foveate.arrays import UInt8Array
from foveate.errors import BundleError, InputError
from foveate.runtime.pipeline import Pipeline


@pytest.fixture(scope="module")
def pipeline(contrast_bundle: Path) -> Iterator[Pipeline]:
    with foveate.load(contrast_bundle) as opened:
        yield opened


@pytest.fixture(scope="module")
def image() -> UInt8Array:
    image = square_image(200, 300, (40, 60, 120, 140))
    image[20:60, 200:240, 1] = 255
    return image


def test_findings_are_those_of_the_single_runs(pipeline: Pipeline, image: UInt8Array) -> None:
    findings = pipeline.find(image)
    proposals, detections = pipeline.propose(image), pipeline(image)
    assert len(proposals) > len(set(detections.proposals.tolist())) > 1
    np.testing.assert_array_equal(findings.proposals.boxes, proposals.boxes)
    np.testing.assert_array_equal(findings.proposals.scores, proposals.scores)
    assert findings.proposals.masks.rle() == proposals.masks.rle()
    np.testing.assert_array_equal(findings.detections.boxes, detections.boxes)
    np.testing.assert_array_equal(findings.detections.labels, detections.labels)
    assert findings.detections.masks.rle() == detections.masks.rle()


def test_detections_have_the_masks_of_their_proposals(
    pipeline: Pipeline, image: UInt8Array
) -> None:
    findings = pipeline.find(image)
    codes = findings.proposals.masks.rle()
    ranks = findings.detections.proposals.tolist()
    assert findings.detections.masks.rle() == [codes[rank] for rank in ranks]


def test_a_slot_may_find_first_detections_and_then_both(
    pipeline: Pipeline, image: UInt8Array
) -> None:
    expected = pipeline.propose(image[::-1]).masks.rle()
    pipeline(image)
    assert pipeline.find(image[::-1]).proposals.masks.rle() == expected


def test_a_stream_of_findings_is_in_order(pipeline: Pipeline, image: UInt8Array) -> None:
    images = [image, image[:, ::-1], image[:150]]
    found = list(pipeline.stream(images, with_proposals=True))
    for one, alone in zip(found, map(pipeline.find, images), strict=True):
        np.testing.assert_array_equal(one.proposals.boxes, alone.proposals.boxes)
        np.testing.assert_array_equal(one.detections.boxes, alone.detections.boxes)


def test_a_list_is_no_image(pipeline: Pipeline, image: UInt8Array) -> None:
    with pytest.raises(InputError, match="an image must be a path or a numpy array, found list"):
        pipeline.find([image])  # type: ignore[arg-type]  # wrong on purpose


def test_a_bundle_without_classifier_finds_nothing_by_class(
    proposing_bundle: Path, image: UInt8Array
) -> None:
    with (
        foveate.load(proposing_bundle) as pipeline,
        pytest.raises(BundleError, match="use Pipeline.propose"),
    ):
        pipeline.find(image)
