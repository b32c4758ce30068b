# SPDX-License-Identifier: Apache-2.0
"""Refinement takes some windows at a time, which bounds its memory and changes nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import foveate
from foveate.arrays import Array
from foveate.bundle import Bundle
from foveate.runtime.engines import Engine, FunctionEngine
from foveate.runtime.engines.cpu import CpuEngine
from foveate.runtime.engines.onnxruntime import OnnxRuntimeEngine
from foveate.runtime.pipeline import Pipeline

IMAGE = np.random.default_rng(3).integers(0, 256, (150, 210, 3), dtype=np.uint8)


def propose(directory: Path, top_k: int) -> foveate.Proposals:
    options = foveate.PipelineOptions(top_k=top_k, window_nms_iou=1.0)
    with foveate.load(directory, options=options) as pipeline:
        return pipeline.propose(IMAGE)


@pytest.mark.parametrize("at_once", [1, 7, 64, 1000])
def test_proposals_do_not_depend_on_how_many_windows_are_refined_at_once(
    proposing_bundle: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    expected = propose(proposing_bundle, 150)
    monkeypatch.setattr(CpuEngine, "rows_at_once", at_once)
    found = propose(proposing_bundle, 150)
    assert len(expected) > 100
    assert np.array_equal(found.boxes, expected.boxes)
    assert np.array_equal(found.scores, expected.scores)
    assert found.masks.rle() == expected.masks.rle()


def sizes_of_runs(directory: Path, top_k: int) -> list[int]:
    """Return how many windows each run of refine got."""
    bundle, sizes = Bundle.open(directory), []
    side = bundle.manifest.mask.size

    def noting(inputs: dict[str, Array]) -> Mapping[str, Array]:
        sizes.append(len(inputs["vectors"]))
        return {"logits": np.ones((sizes[-1], side, side))}

    refine = bundle.manifest.stages["refine"]
    engines: dict[str, Engine] = {
        "propose": OnnxRuntimeEngine(bundle.stage_path("propose"), threads=1),
        "refine": FunctionEngine(refine.inputs, refine.outputs, noting),
    }
    options = foveate.PipelineOptions(top_k=top_k, window_nms_iou=1.0)
    with Pipeline(bundle, engines, options=options) as pipeline:
        assert len(pipeline.propose(IMAGE)) == sum(sizes)
    return sizes


def test_no_run_of_refine_gets_more_windows_than_the_bound(proposing_bundle: Path) -> None:
    assert sizes_of_runs(proposing_bundle, 36) == [10, 10, 10, 6]


def test_windows_that_do_not_exist_are_not_refined(proposing_bundle: Path) -> None:
    everything = sum(sizes_of_runs(proposing_bundle, 5000))
    assert 250 < everything < 5000
    assert sizes_of_runs(proposing_bundle, 5000)[-1] == (everything - 1) % 10 + 1
