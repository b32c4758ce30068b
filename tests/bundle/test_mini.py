# SPDX-License-Identifier: Apache-2.0
"""The shipped bundle on real photographs: parity with PyTorch, and what it finds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from pycocotools import mask as coco_mask
from tests.samples.paths import IMAGES
from torch import nn

import foveate
from foveate.bundle import Bundle
from foveate.export.bundle_export import weights_digest
from foveate.export.checks.stage_checks import refused_operators
from foveate.export.execution.torch_engines import torch_engines
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.images.reading import read_image
from foveate.results.detections import Detection

# pycocotools gives numpy 2 an array of the old kind.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PHOTOGRAPHS = sorted(IMAGES.glob("*.jpg"))
CAT = json.loads((Path(__file__).parents[1] / "samples" / "cat.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open("mini")


@pytest.fixture(scope="module")
def pipeline() -> Iterator[foveate.Pipeline]:
    with foveate.load("mini", options=foveate.PipelineOptions(score_threshold=0.0)) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def torch_pipeline(bundle: Bundle) -> Iterator[foveate.Pipeline]:
    engines = torch_engines(cascade_from_bundle(bundle), bundle)
    with foveate.Pipeline(
        bundle, engines, options=foveate.PipelineOptions(score_threshold=0.0)
    ) as pipeline:
        yield pipeline


def test_the_bundle_is_small_and_complete(bundle: Bundle) -> None:
    assert sum(record.size for record in bundle.manifest.files.values()) <= 12_000_000
    assert set(bundle.manifest.stages) == {"propose", "refine", "features", "classify"}
    assert len(bundle.manifest.class_names) >= 8
    assert set(bundle.manifest.files) == {spec.file for spec in bundle.manifest.stages.values()}


def test_it_runs_where_max_roi_pool_does_not_exist(bundle: Bundle) -> None:
    assert {plugin.name for plugin in bundle.manifest.plugins} == {
        "BilinearUpsample2d",
        "RoiMaxPool2d",
    }
    for stage in bundle.manifest.stages:
        assert refused_operators(onnx.load(bundle.stage_path(stage))) == []


def test_its_weights_and_its_card_have_the_digest_that_it_names(bundle: Bundle) -> None:
    digest = bundle.manifest.provenance["weights_sha256"]
    assert weights_digest(cascade_from_bundle(bundle)) == digest
    assert digest in (bundle.root / "README.md").read_text(encoding="utf-8")


def test_the_networks_have_at_most_six_million_parameters(bundle: Bundle) -> None:
    cascade = cascade_from_bundle(bundle)
    assert cascade.classifier is not None
    networks: tuple[nn.Module, ...] = (cascade.proposals, cascade.classifier)
    count = sum(parameter.numel() for network in networks for parameter in network.parameters())
    assert count <= 6_000_000


def test_the_classifier_reads_the_maps_of_the_proposals(bundle: Bundle) -> None:
    assert bundle.manifest.shares_trunk
    stages = bundle.manifest.stages
    assert [one.name for one in stages["features"].inputs] == ["map_16"]
    assert [one.name for one in stages["features"].outputs] == ["map_32"]
    read = [one.name for one in stages["classify"].inputs]
    assert read == ["map_8", "map_16", "map_32", "boxes"]


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_detections_agree_with_pytorch(
    pipeline: foveate.Pipeline, torch_pipeline: foveate.Pipeline, photograph: Path
) -> None:
    image = read_image(photograph)
    if photograph.stem != "cat":  # one whole photograph is enough
        half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        image = np.asarray(half, np.uint8)
    found, expected = pipeline(image), torch_pipeline(image)
    assert len(found) == len(expected) > 0
    for one, other in matched(found, expected):
        assert one.label == other.label
        assert np.abs(one.box - other.box).max() <= 0.5
        assert abs(one.score - other.score) <= 1e-3
        union = (one.mask | other.mask).sum()
        assert (one.mask & other.mask).sum() >= 0.99 * union


def matched(
    found: foveate.Detections, expected: foveate.Detections
) -> Iterator[tuple[Detection, Detection]]:
    """Pair each detection with the nearest of its class: equal scores may change places."""
    left = list(range(len(expected)))
    for index in range(len(found)):
        same = [i for i in left if expected.labels[i] == found.labels[index]]
        assert same
        nearest = min(
            same, key=lambda i: float(np.abs(expected.boxes[i] - found.boxes[index]).sum())
        )
        left.remove(nearest)
        yield found[index], expected[nearest]


def test_the_cat_is_among_the_five_best_detections(pipeline: foveate.Pipeline) -> None:
    image = read_image(next(path for path in PHOTOGRAPHS if path.stem == "cat"))
    detections = pipeline(image)[:5]
    (annotation,) = CAT["annotations"]
    outline = coco_mask.merge(coco_mask.frPyObjects(annotation["segmentation"], *image.shape[:2]))
    truth = coco_mask.decode(outline).astype(bool)
    overlaps = [
        (detection.mask & truth).sum() / (detection.mask | truth).sum()
        for detection in detections
        if detection.name == "animal"
    ]
    assert max(overlaps, default=0.0) >= 0.6
