# SPDX-License-Identifier: Apache-2.0
"""A refinement that rates the masks decides the order of the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import foveate
from foveate.arrays import Array
from foveate.bundle import Bundle, TensorSpec
from foveate.errors import BundleError
from foveate.runtime.engines import Engine, FunctionEngine
from foveate.runtime.engines.onnxruntime import OnnxRuntimeEngine
from foveate.runtime.pipeline import Pipeline

IMAGE = np.random.default_rng(5).integers(0, 256, (150, 210, 3), dtype=np.uint8)
OPTIONS = foveate.PipelineOptions(top_k=25, score_threshold=0.0)


def spec_of(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=shape)


def with_scores(bundle: Bundle, output: TensorSpec) -> Bundle:
    """Return a bundle whose refinement also reads and writes scores."""
    stages = bundle.manifest.stages
    refine = stages["refine"]
    refine = replace(
        refine,
        inputs=(*refine.inputs, spec_of("scores", "windows", 1)),
        outputs=(*refine.outputs, output),
    )
    return Bundle(bundle.root, replace(bundle.manifest, stages={**stages, "refine": refine}))


def reversing(directory: Path, options: foveate.PipelineOptions = OPTIONS) -> Pipeline:
    """Return a pipeline whose refinement reverses the order of the windows."""
    opened = Bundle.open(directory)
    bundle = with_scores(opened, spec_of("mask_scores", "windows", 1))
    engines: dict[str, Engine] = {
        stage: OnnxRuntimeEngine(bundle.stage_path(stage), threads=1)
        for stage in bundle.manifest.networks
    }
    session = onnxruntime.InferenceSession(opened.stage_path("refine"))

    def refine(inputs: dict[str, Array]) -> Mapping[str, Array]:
        scores = inputs.pop("scores")
        return {"logits": session.run(["logits"], inputs)[0], "mask_scores": -scores}

    spec = bundle.manifest.stages["refine"]
    engines["refine"] = FunctionEngine(spec.inputs, spec.outputs, refine)
    return Pipeline(bundle, engines, options=options)


def test_proposals_are_in_the_order_of_the_new_scores(contrast_bundle: Path) -> None:
    with foveate.load(contrast_bundle, options=OPTIONS) as pipeline:
        expected = pipeline.propose(IMAGE)
    with reversing(contrast_bundle) as pipeline:
        found = pipeline.propose(IMAGE)
    assert len(expected) > 10  # more than one run of the refinement
    assert np.allclose(found.scores, 1 - expected.scores[::-1], atol=1e-6)
    assert np.array_equal(found.boxes, expected.boxes[::-1])
    assert found.masks.rle() == expected.masks.rle()[::-1]


def test_detections_name_the_proposals_of_the_new_order(contrast_bundle: Path) -> None:
    with reversing(contrast_bundle) as pipeline:
        proposals, detections = pipeline.propose(IMAGE), pipeline(IMAGE)
    assert len(set(detections.proposals.tolist())) > 1
    rle = proposals.masks.rle()
    assert detections.masks.rle() == [rle[index] for index in detections.proposals]


def test_the_new_scores_decide_which_of_two_proposals_is_classified(contrast_bundle: Path) -> None:
    """With a threshold near 0 all that touch the best proposal are suppressed."""
    options = replace(OPTIONS, proposal_nms_iou=1e-6)
    with reversing(contrast_bundle, options) as pipeline:
        assert 0 in pipeline(IMAGE).proposals


def test_scores_of_another_shape_are_refused(contrast_bundle: Path, tmp_path: Path) -> None:
    bundle = with_scores(Bundle.open(contrast_bundle), spec_of("mask_scores", "windows", 2))
    for file in contrast_bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "manifest.json").write_text(bundle.manifest.to_json(), encoding="utf-8")
    with pytest.raises(
        BundleError, match=r"has mask_scores of .* \(windows, 2\), expected \(windo"
    ):
        Bundle.open(tmp_path)
