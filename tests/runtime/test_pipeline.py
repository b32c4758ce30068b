# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.samples.images import square_image
from tests.samples.scripted_device import ScriptedDevice

import foveate
from foveate.arrays import Array, UInt8Array
from foveate.bundle import Bundle
from foveate.errors import BackendError, BundleError, InputError, OptionError
from foveate.runtime.devices import CpuDevice
from foveate.runtime.engines import Engine, FunctionEngine
from foveate.runtime.engines.onnxruntime import OnnxRuntimeEngine
from foveate.runtime.pipeline import Pipeline
from foveate.runtime.sizes import Sizes
from foveate.runtime.steps import Steps


@pytest.fixture(scope="module")
def pipeline(contrast_bundle: Path) -> Iterator[Pipeline]:
    with foveate.load(contrast_bundle) as opened:
        yield opened


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((200, 300), (40, 60, 120, 140)),
        ((200, 300), (180, 20, 220, 60)),
        ((200, 300), (0, 0, 64, 64)),
        ((200, 300), (240, 140, 300, 200)),
        ((90, 90), (30, 30, 60, 60)),
        ((1024, 768), (200, 300, 520, 620)),
        ((2000, 1500), (640, 720, 1280, 1360)),
    ],
)
def test_a_square_is_found_where_it_is(
    pipeline: Pipeline, size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    image = square_image(*size, box)
    best = pipeline.propose(image)[0]
    # A mask has 160 samples a window, and logits change over at most two of the coarsest cells'
    # pixels; levels are half an octave apart, so a window is at most 2.9 times the square's side.
    side = box[2] - box[0]
    assert np.abs(best.box - box).max() <= max(1.5, side * 2.9 / 160 * 2)
    truth = image[..., 0] > 0
    assert (best.mask & truth).sum() / (best.mask | truth).sum() > 0.85
    found = pipeline(image)
    assert found.names[0] == "red"
    assert np.abs(found.boxes[0] - box).max() <= max(1.5, side * 2.9 / 160 * 2)


def test_boxes_of_proposals_bound_their_masks(pipeline: Pipeline) -> None:
    proposals = pipeline.propose(square_image(150, 210, (30, 30, 90, 100)))
    assert len(proposals) > 5
    for one in proposals:
        rows, columns = np.nonzero(one.mask)
        tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert tuple(one.box) == tight
    assert (np.diff(proposals.scores) <= 0).all()


def test_a_detection_keeps_the_mask_of_its_proposal(pipeline: Pipeline) -> None:
    image = square_image(150, 210, (30, 30, 90, 100), (0, 255, 0))
    proposals, detections = pipeline.propose(image), pipeline(image)
    assert len(detections)
    for index, one in enumerate(detections):
        rank = int(detections.proposals[index])
        assert np.array_equal(one.mask, proposals.masks[rank])
        assert one.name == "green"
        assert not np.array_equal(one.box, proposals.boxes[rank])  # green boxes are regressed


def test_an_image_with_nothing_in_it_has_no_detections(pipeline: Pipeline) -> None:
    detections = pipeline(np.zeros((80, 100, 3), np.uint8))
    assert len(detections) == 0
    assert detections.boxes.shape == (0, 4)
    assert np.asarray(detections.masks).shape == (0, 80, 100)
    assert detections.to_coco(1) == []
    assert detections.draw(np.zeros((80, 100, 3), np.uint8)).shape == (80, 100, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (2, 3), (10, 16000), (16000, 10), (257, 256)])
def test_odd_sizes_work(pipeline: Pipeline, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert pipeline(image).masks.shape[1:] == size
    proposals = pipeline.propose(image)
    assert (proposals.boxes[:, 2:] <= [size[1], size[0]]).all()


def same(first: foveate.Detections, second: foveate.Detections) -> bool:
    return (
        np.array_equal(first.boxes, second.boxes)
        and np.array_equal(first.scores, second.scores)
        and np.array_equal(first.labels, second.labels)
        and first.masks.rle() == second.masks.rle()
    )


def images_of(count: int) -> list[UInt8Array]:
    sizes = [(90, 130), (200, 150), (60, 60), (150, 260)]
    return [
        square_image(*sizes[i % 4], (10 + i, 12, 45 + i, 50), ((255, 0, 0), (0, 0, 255))[i % 2])
        for i in range(count)
    ]


def test_stream_gives_what_single_calls_give_in_order(pipeline: Pipeline) -> None:
    images = images_of(9)
    singly = [pipeline(image) for image in images]
    for streamed in (list(pipeline.stream(iter(images))), pipeline(images)):
        assert len(streamed) == 9
        assert all(same(a, b) for a, b in zip(singly, streamed, strict=True))


@pytest.mark.parametrize("max_in_flight", [1, 2, 4])
def test_stream_holds_a_bounded_number_of_images(contrast_bundle: Path, max_in_flight: int) -> None:
    taken = 0

    def counting() -> Iterator[UInt8Array]:
        nonlocal taken
        for image in images_of(12):
            taken += 1
            yield image

    with foveate.load(
        contrast_bundle, options=foveate.PipelineOptions(max_in_flight=max_in_flight)
    ) as pipeline:
        for done, _ in enumerate(pipeline.stream(counting())):
            assert taken <= done + max_in_flight + 1
        assert len(pipeline._slots._free) <= max_in_flight


def test_an_image_may_change_when_the_next_is_asked_for(pipeline: Pipeline) -> None:
    images = [square_image(90, 130, (10 + i, 12, 45 + i, 50)) for i in range(6)]
    shared = np.empty_like(images[0])

    def reusing() -> Iterator[UInt8Array]:
        for image in images:
            shared[:] = image
            yield shared

    streamed = list(pipeline.stream(reusing()))
    assert all(same(pipeline(a), b) for a, b in zip(images, streamed, strict=True))


def test_a_bad_image_in_a_stream_comes_after_the_results_before_it(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    stream = pipeline.stream([*images_of(3), tmp_path / "missing.jpg"])
    for _ in range(3):
        assert isinstance(next(stream), foveate.Detections)
    with pytest.raises(InputError, match=r"missing\.jpg"):
        next(stream)
    assert len(pipeline(images_of(1)[0])) == 1


def test_an_abandoned_stream_frees_its_slots(pipeline: Pipeline) -> None:
    stream = pipeline.stream(images_of(6))
    next(stream)
    assert isinstance(stream, Generator)
    stream.close()
    assert len(pipeline._slots._free) == 2
    assert len(pipeline(images_of(1)[0])) == 1


def test_streams_may_be_nested(pipeline: Pipeline) -> None:
    pairs = [
        (outer, inner)
        for outer in pipeline.stream(images_of(3))
        for inner in pipeline.stream(images_of(2))
    ]
    assert len(pairs) == 6


def engines_of(bundle: Bundle) -> dict[str, Engine]:
    return {s: OnnxRuntimeEngine(bundle.stage_path(s), threads=1) for s in bundle.manifest.stages}


def shuffled(seed: int) -> Callable[[Sequence[int]], int]:
    return random.Random(seed).choice


RULES = [min, max, *(shuffled(seed) for seed in range(6))]


@pytest.fixture(scope="module", params=["contrast_bundle", "sharing_bundle"])
def in_order(request: pytest.FixtureRequest) -> tuple[Bundle, list[foveate.Detections]]:
    """A bundle, and what it finds on each of five images."""
    bundle = Bundle.open(request.getfixturevalue(request.param))
    with foveate.load(bundle.root) as pipeline:
        return bundle, [pipeline(image) for image in images_of(5)]


@pytest.mark.parametrize("rule", RULES)
def test_any_order_that_events_allow_gives_the_same_result(
    in_order: tuple[Bundle, list[foveate.Detections]], rule: Callable[[Sequence[int]], int]
) -> None:
    bundle, expected = in_order
    for parallel in (False, True):
        options = foveate.PipelineOptions(parallel_levels=parallel)
        scripted = Pipeline(
            bundle, engines_of(bundle), device=ScriptedDevice(rule), options=options
        )
        streamed = list(scripted.stream(images_of(5)))
        assert all(same(a, b) for a, b in zip(expected, streamed, strict=True))


def test_a_forgotten_wait_gives_a_wrong_result(
    contrast_bundle: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Take away the wait of classify for features, and see that the script notices."""
    bundle, images = Bundle.open(contrast_bundle), images_of(5)
    init = Steps.__init__

    def forgetful(steps: Steps, *arguments: Any) -> None:
        init(steps, *arguments)
        monkeypatch.setattr(steps.main, "wait", lambda _: None)

    monkeypatch.setattr(Steps, "__init__", forgetful)
    scripted = Pipeline(bundle, engines_of(bundle), device=ScriptedDevice(min))
    streamed = list(scripted.stream(images))
    assert not all(same(pipeline(a), b) for a, b in zip(images, streamed, strict=True))


def test_an_engine_may_be_swapped(contrast_bundle: Path) -> None:
    bundle = Bundle.open(contrast_bundle)
    engines, spec = engines_of(bundle), bundle.manifest.stages["classify"]
    seen = []

    def all_blue(inputs: dict[str, Array]) -> Mapping[str, Array]:
        count = len(inputs["boxes"])
        seen.append(count)
        return {
            "probabilities": np.tile(np.array([0.0, 0.05, 0.05, 0.9]), (count, 1)),
            "deltas": np.zeros((count, 4, 4)),
        }

    engines["classify"] = FunctionEngine(spec.inputs, spec.outputs, all_blue)
    detections = Pipeline(bundle, engines)(images_of(1)[0])
    assert set(detections.names) == {"blue"}
    assert detections.scores == pytest.approx(0.9, abs=1e-5)
    assert 0 < seen[0] <= 20  # only the rows that exist


def test_an_engine_that_fails_is_reported_and_the_next_image_works(contrast_bundle: Path) -> None:
    bundle = Bundle.open(contrast_bundle)
    engines, spec = engines_of(bundle), bundle.manifest.stages["features"]
    calls = []

    def broken_once(inputs: dict[str, Array]) -> Mapping[str, Array]:
        calls.append(inputs["image"].shape)
        if len(calls) == 1:
            raise MemoryError("no room")
        size = inputs["image"].shape
        return {
            f"map_{s}": np.zeros((1, 3, size[2] // s, size[3] // s), np.float32)
            for s in (8, 16, 32)
        }

    engines["features"] = FunctionEngine(spec.inputs, spec.outputs, broken_once)
    pipeline = Pipeline(bundle, engines)
    with pytest.raises(MemoryError, match="no room"):
        pipeline(images_of(1)[0])
    assert isinstance(pipeline(images_of(1)[0]), foveate.Detections)


def test_an_engine_that_does_not_fit_the_manifest_is_refused(contrast_bundle: Path) -> None:
    bundle = Bundle.open(contrast_bundle)
    engines = engines_of(bundle)
    with pytest.raises(BundleError, match="'refine' has no engine"):
        Pipeline(bundle, {k: v for k, v in engines.items() if k != "refine"})
    engines["refine"] = engines["features"]
    with pytest.raises(BundleError, match="'refine' has image, the manifest lists horizontal_1"):
        Pipeline(bundle, engines)


def test_a_stride_that_the_engine_does_not_have_is_refused_by_it(contrast_bundle: Path) -> None:
    bundle = Bundle.open(contrast_bundle)
    spec = bundle.manifest.stages["propose"]
    outputs = tuple(
        replace(one, stride=8) if one.name == "horizontal_1" else one for one in spec.outputs
    )
    stages = {**bundle.manifest.stages, "propose": replace(spec, outputs=outputs)}
    changed = replace(bundle, manifest=replace(bundle.manifest, stages=stages))
    with pytest.raises(BackendError, match="ONNX Runtime failed"):
        Pipeline(changed, engines_of(bundle)).propose(images_of(1)[0])


def test_a_bundle_that_only_proposes_says_so(proposing_bundle: Path) -> None:
    with foveate.load(proposing_bundle) as pipeline:
        assert len(pipeline.propose(images_of(1)[0]))
        with pytest.raises(BundleError, match=r"only proposes.*use Pipeline\.propose"):
            pipeline(images_of(1)[0])


def test_options_take_the_place_of_the_manifest(contrast_bundle: Path) -> None:
    image = square_image(300, 400, (100, 100, 200, 180))
    options = foveate.PipelineOptions(
        top_k=7, window_nms_iou=1.0, max_detections=1, score_threshold=0.0, max_side=64
    )
    with foveate.load(contrast_bundle, options=options) as pipeline:
        assert len(pipeline.propose(image)) <= 7
        assert len(pipeline(image)) == 1
        assert pipeline.manifest.pyramid.max_side == 64


def test_a_full_resolution_pyramid_takes_levels_of_the_image_itself(contrast_bundle: Path) -> None:
    options = foveate.PipelineOptions(pyramid="full-resolution")
    with foveate.load(contrast_bundle, options=options) as pipeline:
        pipeline.propose(np.zeros((300, 400, 3), np.uint8))
        assert pipeline.manifest.pyramid.max_side > 10_000


def test_an_image_that_is_too_long_for_the_classifier_is_refused() -> None:
    options = foveate.PipelineOptions(pyramid="full-resolution")
    with (
        foveate.load("mini", options=options) as pipeline,
        pytest.raises(InputError, match="at most 8195 pixels on its longer side, found 8300x4"),
    ):
        pipeline(np.zeros((4, 8300, 3), np.uint8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k must be at least 1, found 0"),
        ({"score_threshold": 1.5}, r"score_threshold must lie in 0\.\.1, found 1\.5"),
        ({"class_nms_iou": 0.0}, "class_nms_iou must be above 0 and at most 1"),
        ({"max_in_flight": 0}, "max_in_flight must be at least 1"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        foveate.PipelineOptions(**options)


def test_options_of_another_type_are_refused() -> None:
    with pytest.raises(OptionError, match="^options must be PipelineOptions, found dict: for ex"):
        foveate.load("mini", options={})  # type: ignore[arg-type]  # wrong on purpose


def test_wrong_names_of_device_and_backend_name_the_right_ones(contrast_bundle: Path) -> None:
    with pytest.raises(OptionError, match="no device 'gpu': use auto, cpu"):
        foveate.load(contrast_bundle, device="gpu")
    with pytest.raises(
        OptionError, match="no backend 'trt': use auto, tensorrt, tensorrt-rtx, onnx"
    ):
        foveate.load(contrast_bundle, backend="trt")


def test_what_is_no_image_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(InputError, match="path or a numpy array, found int"):
        pipeline(3)  # type: ignore[call-overload]  # wrong on purpose
    with pytest.raises(InputError, match=r"found float64 of shape \(4, 4, 3\)"):
        pipeline(np.zeros((4, 4, 3)))


def test_repr_names_bundle_and_device(pipeline: Pipeline) -> None:
    assert repr(pipeline) == "Pipeline('contrast', device='cpu')"


def test_no_more_windows_are_refined_than_an_image_has(contrast_bundle: Path) -> None:
    image = square_image(90, 130, (10, 12, 45, 50))
    everything = foveate.PipelineOptions(
        top_k=10**12, max_detections=10**12, window_nms_iou=1, score_threshold=0
    )
    with foveate.load(contrast_bundle, options=everything) as pipeline:
        windows = Sizes.of(90, 130, pipeline.bundle.manifest).windows
        assert len(pipeline.propose(image)) <= windows < 10_000
        assert len(pipeline(image)) > 0


def test_an_image_that_needs_more_memory_than_there_is_says_how_much() -> None:
    with pytest.raises(
        BackendError, match="^there is not enough memory for 4000000000000 MB: use a small"
    ):
        CpuDevice().allocate((4 * 10**18,), np.dtype(np.uint8))


def test_results_cannot_stay_on_the_cpu_as_a_device(pipeline: Pipeline) -> None:
    image = square_image(60, 90, (5, 10, 30, 40))
    with pytest.raises(OptionError, match="a GPU only, found the device 'cpu': omit on_device"):
        pipeline(image, on_device=True)
    assert len(pipeline(image)) > 0
