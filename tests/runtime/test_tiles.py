# SPDX-License-Identifier: Apache-2.0
"""Large images in tiles, through the whole pipeline. The working image has 256 pixels at most."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.samples.images import square_image
from tests.samples.scripted_device import ScriptedDevice

import foveate
from foveate.arrays import Array, Float32Array
from foveate.bundle import Bundle
from foveate.errors import InputError, OptionError
from foveate.runtime.engines import Engine, FunctionEngine
from foveate.runtime.engines.onnxruntime import OnnxRuntimeEngine
from foveate.runtime.pipeline import Pipeline

SIZE = (500, 900)
# Tiles of 256 pixels with an overlap of 64 begin at 0, 122 and 244, and at 0, 161, 322, 483 and 644.
SMALL = {
    "inside of a tile": (80, 60, 128, 108),
    "across an edge": (240, 40, 288, 88),
    "across a corner": (230, 230, 278, 278),
    "at the border of the image": (852, 452, 900, 500),
}


@pytest.fixture(scope="module")
def tiled(contrast_bundle: Path) -> Iterator[Pipeline]:
    with load(contrast_bundle, tiles=256) as pipeline:
        yield pipeline


def load(bundle: Path, **options: Any) -> Pipeline:
    return foveate.load(bundle, device="cpu", options=foveate.PipelineOptions(**options))


def iou(one: Float32Array, other: Sequence[float]) -> float:
    x0, y0 = np.maximum(one[:2], other[:2])
    x1, y1 = np.minimum(one[2:], other[2:])
    shared = max(x1 - x0, 0) * max(y1 - y0, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(shared / (sum(areas) - shared))


@pytest.mark.parametrize("place", SMALL)
def test_a_small_object_anywhere_is_found_once(tiled: Pipeline, place: str) -> None:
    detections = tiled(square_image(*SIZE, SMALL[place]))
    near = [one for one in detections if iou(one.box, SMALL[place]) > 0.1]
    assert len(near) == 1
    assert iou(near[0].box, SMALL[place]) > 0.6
    assert near[0].mask.shape == SIZE


def test_tiles_outline_a_small_object_better_than_the_shrunk_image(
    contrast_bundle: Path, tiled: Pipeline
) -> None:
    box = SMALL["across an edge"]
    image = square_image(*SIZE, box)
    with load(contrast_bundle) as pipeline:
        coarse = max(iou(one.box, box) for one in pipeline.propose(image))
    fine = max(iou(one.box, box) for one in tiled.propose(image))
    assert fine > coarse + 0.1


def test_an_object_larger_than_a_tile_leaves_no_fragments(tiled: Pipeline) -> None:
    box = (100, 60, 620, 440)
    detections = tiled(square_image(*SIZE, box))
    assert iou(detections.boxes[0], box) > 0.9
    # The network finds parts of it that end inside of a tile, but none that an edge of a tile cuts.
    edges = {122, 161, 244, 256, 322, 378, 417, 483, 578, 644, 739}
    assert not edges & set(detections.boxes[1:].ravel().tolist())


def test_boxes_of_tiled_proposals_bound_their_masks(tiled: Pipeline) -> None:
    proposals = tiled.propose(square_image(*SIZE, (245, 40, 300, 110)))
    assert np.array_equal(proposals.boxes, proposals.masks.boxes())
    assert (np.diff(proposals.scores) <= 0).all()
    for one in proposals[:5]:
        rows, columns = np.nonzero(one.mask)
        assert (*one.box,) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_an_image_that_is_not_tiled_has_the_same_result(
    contrast_bundle: Path, tiled: Pipeline
) -> None:
    image = square_image(200, 250, (40, 60, 120, 140))
    with load(contrast_bundle) as pipeline:
        expected = pipeline(image)
    found = tiled(image)
    assert np.array_equal(found.boxes, expected.boxes)
    assert np.array_equal(found.proposals, expected.proposals)
    assert found.masks.rle() == expected.masks.rle()


def test_detections_name_their_proposals_only_if_these_are_found_too(tiled: Pipeline) -> None:
    image = square_image(*SIZE, SMALL["across an edge"])
    detections, findings = tiled(image), tiled.find(image)
    assert np.array_equal(detections.boxes, findings.detections.boxes)
    assert detections.proposals.tolist() == [-1] * len(detections)
    assert len(detections)
    for one in findings.detections[:5]:
        assert one.mask.any()
    masks = findings.proposals.masks[findings.detections.proposals]
    assert masks.rle() == findings.detections.masks.rle() == detections.masks.rle()


def test_a_stream_of_tiled_and_other_images_keeps_the_order(tiled: Pipeline) -> None:
    images = [
        square_image(*SIZE, SMALL["across an edge"]),
        square_image(200, 250, (40, 60, 120, 140), (0, 0, 255)),
        square_image(*SIZE, SMALL["inside of a tile"], (0, 0, 255)),
    ]
    singly = [tiled(image) for image in images]
    streamed = list(tiled.stream(iter(images)))
    assert [one.masks.shape[1:] for one in streamed] == [SIZE, (200, 250), SIZE]
    for one, other in zip(singly, streamed, strict=True):
        assert np.array_equal(one.boxes, other.boxes)
        assert one.masks.rle() == other.masks.rle()


def test_a_bad_image_comes_after_the_result_of_the_tiles_before_it(
    tiled: Pipeline, tmp_path: Path
) -> None:
    stream = tiled.stream([square_image(*SIZE, SMALL["across an edge"]), tmp_path / "missing.jpg"])
    assert len(next(stream)) == 1
    with pytest.raises(InputError, match=r"missing\.jpg"):
        next(stream)


@pytest.mark.parametrize("max_in_flight", [1, 3])
def test_no_more_tiles_are_in_flight_than_allowed(
    contrast_bundle: Path, monkeypatch: pytest.MonkeyPatch, max_in_flight: int
) -> None:
    with load(contrast_bundle, tiles=256, max_in_flight=max_in_flight) as pipeline:
        used = []
        start = pipeline._slots.start

        def counting(*arguments: Any) -> Any:
            slot = start(*arguments)
            used.append(pipeline._slots.in_use)
            return slot

        monkeypatch.setattr(pipeline._slots, "start", counting)
        pipeline(square_image(*SIZE, SMALL["across an edge"]))
        assert len(used) == 16
        assert max(used) == max_in_flight
        assert len(pipeline._slots._free) <= max_in_flight
        assert pipeline._slots.in_use == 0


@pytest.mark.parametrize("rule", [min, max, random.Random(0).choice])
def test_any_order_that_events_allow_gives_the_same_result(
    contrast_bundle: Path, tiled: Pipeline, rule: Any
) -> None:
    bundle = Bundle.open(contrast_bundle)
    engines = {
        s: OnnxRuntimeEngine(bundle.stage_path(s), threads=1) for s in bundle.manifest.stages
    }
    image = square_image(*SIZE, SMALL["across a corner"])
    options = foveate.PipelineOptions(tiles=256)
    device = ScriptedDevice(rule)
    with Pipeline(bundle, engines, device=device, options=options) as pipeline:
        found, expected = pipeline(image), tiled(image)
    assert np.array_equal(found.boxes, expected.boxes)
    assert found.masks.rle() == expected.masks.rle()


def test_a_tile_that_fails_ends_the_image_and_frees_its_slots(contrast_bundle: Path) -> None:
    bundle, runs = Bundle.open(contrast_bundle), 0
    engines: dict[str, Engine] = {
        s: OnnxRuntimeEngine(bundle.stage_path(s)) for s in bundle.manifest.stages
    }

    def failing_once(inputs: dict[str, Array]) -> dict[str, Array]:
        nonlocal runs
        runs += 1
        if runs == 5:
            raise ValueError("planted")
        return {f"map_{s}": inputs["image"][..., ::s, ::s] for s in (8, 16, 32)}

    spec = bundle.manifest.stages["features"]
    engines["features"] = FunctionEngine(spec.inputs, spec.outputs, failing_once)
    options = foveate.PipelineOptions(tiles=256)
    image = square_image(*SIZE, SMALL["across an edge"])
    with Pipeline(bundle, engines, options=options) as pipeline:
        with pytest.raises(ValueError, match="planted"):
            pipeline(image)
        assert pipeline._slots.in_use == 0
        assert pipeline(image).masks.shape[1:] == SIZE


def test_results_of_tiles_cannot_stay_on_the_device(tiled: Pipeline) -> None:
    with pytest.raises(
        OptionError, match="results of tiles are merged on the CPU, found tiles of 256"
    ):
        tiled(square_image(*SIZE, SMALL["across an edge"]), on_device=True)
