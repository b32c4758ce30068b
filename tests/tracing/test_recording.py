# SPDX-License-Identifier: Apache-2.0
"""What is recorded of a real pipeline, and that recording changes nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from foveate.bench.floor import NullDevice, null_engines
from foveate.bench.images import Images, read_images
from foveate.bench.system import PipelineSystem
from foveate.bundle import Bundle
from foveate.errors import InputError
from foveate.runtime import Pipeline, PipelineOptions, load
from foveate.runtime.devices import Device
from foveate.runtime.engines import Engine
from foveate.runtime.loading import open_parts
from foveate.runtime.sizes import Sizes
from foveate.tracing.clock import SystemClock
from foveate.tracing.image_trace import AbandonedError, Division, ImageTrace, Work, covered, divide
from foveate.tracing.recording import Recorder, record_pipeline

OPTIONS = PipelineOptions(threads=1, score_threshold=0.0)


@pytest.fixture(scope="module")
def images(contrast_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Two images of different sizes with a bright square each."""
    folder = tmp_path_factory.mktemp("images")
    files = []
    for number, (height, width) in enumerate([(150, 200), (180, 160)]):
        image = np.zeros((height, width, 3), np.uint8)
        image[40:100, 50:110] = 255
        files.append(folder / f"{number}.png")
        cv2.imwrite(str(files[-1]), image)
    return read_images(files, Bundle.open(contrast_bundle).manifest, decoding=False)


def system_of(
    bundle: Bundle, device: Device, engines: Mapping[str, Engine], images: Images
) -> PipelineSystem:
    pipeline = Pipeline(bundle, engines, device=device, options=OPTIONS)
    return PipelineSystem(pipeline, images, SystemClock())


@pytest.fixture
def system(contrast_bundle: Path, images: Images) -> Iterator[PipelineSystem]:
    bundle = Bundle.open(contrast_bundle)
    device, engines = open_parts(bundle, "cpu", "onnxruntime", OPTIONS)
    system = system_of(bundle, device, engines, images)
    yield system
    system.close()


def counts_of(trace: ImageTrace) -> Counter[tuple[str, str]]:
    return Counter((one.kind, one.name) for one in trace.work)


def test_every_network_and_operation_is_recorded(system: PipelineSystem, images: Images) -> None:
    counts = counts_of(system.run(0))
    levels = images.inputs[0].levels
    sizes = Sizes.of(150, 200, system.pipeline.manifest)
    assert (levels, images.inputs[0].windows) == (len(sizes.levels), sizes.windows)
    assert counts["network", "propose"] == levels
    assert counts["network", "features"] == counts["network", "classify"] == 1
    assert counts["operation", "select_top_k"] == counts["operation", "postprocess"] == 1
    assert counts["operation", "letterbox"] == 2
    # Each run of refine follows one crop per input: the vectors and four maps.
    assert counts["operation", "crop_features"] == 5 * counts["network", "refine"] > 0
    assert counts["copy", "image"] == 1


def test_the_work_lies_between_start_and_result(system: PipelineSystem) -> None:
    clock = SystemClock()
    start = clock.now()
    trace = system.run(0)
    end = clock.now()
    assert all(start <= one.start <= one.end <= end for one in trace.work)
    moments = (trace.launched, trace.enqueued, trace.waited, trace.done)
    known = [one for one in moments if one is not None]
    assert [start, *known, end] == sorted([start, *known, end])
    assert len(known) == 4
    division = divide(trace, start, end)
    assert division.device is not None
    assert division.host is not None
    assert 0 < division.device < end - start
    assert 0 < division.host < end - start


def test_streams_of_a_slot_are_tracks(system: PipelineSystem) -> None:
    first, second = system.run(0), system.run(1)
    tracks = {one.track for one in first.work if one.kind != "copy"}
    assert tracks == {"slot 0, stream 0"}
    # The slot of the other size has a stream of its own.
    assert len({one.track for one in second.work if one.kind != "copy"}) == 1


def test_recording_does_not_change_results(
    system: PipelineSystem, images: Images, contrast_bundle: Path
) -> None:
    with load(contrast_bundle, device="cpu", options=OPTIONS) as plain:
        for image in images.arrays:
            expected, found = plain(image), system.pipeline(image)
            assert len(expected) > 0
            assert np.array_equal(found.boxes, expected.boxes)
            assert np.array_equal(found.scores, expected.scores)
            assert found.masks.rle() == expected.masks.rle()


def test_each_image_of_a_stream_has_its_own_trace(system: PipelineSystem, images: Images) -> None:
    traces = list(system.stream([0, 1, 0, 1]))
    assert len(traces) == 4
    for trace, index in zip(traces, [0, 1, 0, 1], strict=True):
        assert counts_of(trace) == counts_of(system.run(index))
        assert trace.sent_bytes == images.arrays[index].nbytes
    first, second = ({work.track for work in trace.work} - {"host"} for trace in traces[:2])
    assert first.isdisjoint(second)  # both are in flight at the same time


def test_nothing_is_recorded_outside_of_a_run(
    system: PipelineSystem, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise AssertionError

    system.run(0)  # its streams record no more
    monkeypatch.setattr(Work, "run", fail)
    assert system.pipeline(images.arrays[0]).boxes.shape[1] == 4
    assert system.pipeline.propose(images.arrays[0]).boxes.shape[1] == 4


def test_a_bundle_that_only_proposes(proposing_bundle: Path, images: Images) -> None:
    bundle = Bundle.open(proposing_bundle)
    device, engines = open_parts(bundle, "cpu", "onnxruntime", OPTIONS)
    system = system_of(bundle, device, engines, images)
    try:
        (trace,) = system.stream([1])
        assert counts_of(trace)["network", "refine"] > 0
        assert counts_of(trace)["network", "classify"] == 0
    finally:
        system.close()


def test_files_are_read_in_the_run(contrast_bundle: Path, images: Images) -> None:
    bundle = Bundle.open(contrast_bundle)
    reading = read_images(images.files, bundle.manifest, decoding=True)
    assert reading.arrays == ()
    assert reading.inputs == images.inputs
    device, engines = open_parts(bundle, "cpu", "onnxruntime", OPTIONS)
    system = system_of(bundle, device, engines, reading)
    try:
        assert counts_of(system.run(0))["read", "file"] == 1
    finally:
        system.close()


def test_images_that_fill_the_memory_are_refused(
    contrast_bundle: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foveate.bench.images._MOST_BYTES", 100)
    with pytest.raises(InputError, match="the pixels of the images take more .*: pass --decoding"):
        read_images(images.files, Bundle.open(contrast_bundle).manifest, decoding=False)


def test_a_pipeline_that_does_nothing_has_the_same_path(
    contrast_bundle: Path, images: Images, system: PipelineSystem
) -> None:
    bundle = Bundle.open(contrast_bundle)
    engines = null_engines(bundle.manifest)
    null = system_of(bundle, NullDevice(), engines, images)
    try:
        for index in (0, 1):
            assert counts_of(null.run(index)) == counts_of(system.run(index))
        assert len(null.pipeline(images.arrays[0])) == 0
    finally:
        null.close()


def test_an_abandoned_image_is_not_enqueued(contrast_bundle: Path, images: Images) -> None:
    recorder = Recorder(SystemClock())
    with record_pipeline(
        recorder, load(contrast_bundle, device="cpu", options=OPTIONS)
    ) as pipeline:
        trace = recorder.begin(0)
        trace.abandoned = True
        with pytest.raises(AbandonedError):
            pipeline(images.arrays[0])
    assert trace.launched is None


def test_an_image_that_is_cut_into_tiles_is_launched_with_its_first_tile(
    contrast_bundle: Path, images: Images
) -> None:
    recorder = Recorder(SystemClock())
    options = PipelineOptions(threads=1, max_side=128, tiles=128)
    with record_pipeline(
        recorder, load(contrast_bundle, device="cpu", options=options)
    ) as pipeline:
        trace = recorder.begin(0)
        pipeline(images.arrays[0])
    operations = [one for one in trace.work if one.kind == "operation"]
    assert sum(one.name == "postprocess" for one in operations) > 1
    assert trace.sent_bytes > images.arrays[0].nbytes  # tiles overlap
    assert trace.launched is not None
    assert trace.done is not None
    assert trace.launched <= min(one.start for one in operations)
    assert trace.done >= max(one.end for one in operations)


def trace_of(*work: tuple[str, str, float, float]) -> ImageTrace:
    trace = ImageTrace()
    for kind, name, start, end in work:
        one = Work(kind, name, "track")
        one.start, one.end = start, end
        trace.work.append(one)
    return trace


def test_the_time_of_an_image_divides() -> None:
    trace = trace_of(
        ("read", "file", 10.0, 10.25),
        ("copy", "image", 10.5, 11.0),
        ("network", "propose", 12.0, 14.0),
        ("network", "propose", 14.0, 15.0),
        ("network", "features", 12.5, 16.0),
        ("operation", "nms", 17.0, 17.5),
    )
    trace.launched, trace.enqueued, trace.waited, trace.done = 11.0, 11.75, 12.0, 18.0
    division = divide(trace, 10.0, 18.5)
    assert division.host == 1.5
    assert division.enqueue == 0.75
    assert division.waiting == 6.0
    assert division.device == 4.5  # 12 to 16, and 17 to 17.5
    assert division.overlap == 7.0 / 4.5
    assert (division.copies, division.reading) == (0.5, 0.25)
    assert division.stages == {"propose": 3.0, "features": 3.5}
    assert division.operations == {"nms": 0.5}


def test_what_was_not_recorded_is_none() -> None:
    division = divide(ImageTrace(), 0.0, 1.0)
    assert division == Division()


def test_a_moment_that_was_not_recorded_leaves_out_what_it_ends() -> None:
    trace = ImageTrace(launched=1.0, waited=3.0)
    assert divide(trace, 0.0, 5.0) == Division()
    trace.enqueued = 2.0
    assert divide(trace, 0.0, 5.0) == Division(enqueue=1.0)


@pytest.mark.parametrize(
    ("intervals", "length"),
    [([], 0.0), ([(0, 1), (2, 3)], 2.0), ([(0, 5), (1, 2), (4, 6)], 6.0), ([(3, 4), (0, 3)], 4.0)],
)
def test_the_length_of_a_union(intervals: list[tuple[float, float]], length: float) -> None:
    assert covered(intervals) == length


def test_a_clock_sleeps_until_moments_that_one_sleep_cannot_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, sleeps = iter([0.0, 2e300]), list[float]()
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(time, "sleep", sleeps.append)
    SystemClock().sleep_until(1e300)
    assert len(sleeps) == 1
    assert 0 < sleeps[0] < threading.TIMEOUT_MAX
