# SPDX-License-Identifier: Apache-2.0
"""Videos in a pipeline: every frame or the latest one, with its detections."""

from __future__ import annotations

import itertools
import re
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.samples.videos import HEIGHT, RATE, WIDTH, StandIn, cut, gone, square_images, write_video

import foveate
from foveate import Pipeline
from foveate.arrays import UInt8Array
from foveate.errors import BackendError, BundleError, InputError, OptionError
from foveate.video import Frames


@pytest.fixture(scope="module")
def pipeline(contrast_bundle: Path) -> Iterator[Pipeline]:
    with foveate.load(contrast_bundle) as opened:
        yield opened


def test_every_frame_of_a_file_comes_with_its_detections(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    clip = write_video(tmp_path / "clip.avi", square_images(9))
    results = pipeline.video(clip)
    pairs = list(results)
    assert [frame.index for frame, _ in pairs] == list(range(9))
    assert [frame.time for frame, _ in pairs] == pytest.approx([i / RATE for i in range(9)])
    for frame, detections in pairs:
        alone = pipeline(frame.image)
        assert detections.names[0] == "red"
        assert np.array_equal(detections.boxes, alone.boxes)
    assert results.done == len(results.ages) == 9
    assert re.fullmatch(
        r"9 frames read, 9 processed, 0 dropped, 0 broken; "
        r"age of a result: p50 \d+ ms, p95 \d+ ms",
        results.summary(),
    )


def test_a_single_frame_is_counted_in_the_singular(pipeline: Pipeline) -> None:
    results = pipeline.video(square_images(1))
    assert len(list(results)) == 1
    assert results.summary().startswith("1 frame read, 1 processed, 0 dropped, 0 broken; ")


def test_arrays_of_a_generator_are_frames(pipeline: Pipeline) -> None:
    pairs = list(pipeline.video(square_images(5)))
    assert [frame.index for frame, _ in pairs] == [0, 1, 2, 3, 4]
    assert all(detections.names[0] == "red" for _, detections in pairs)


def test_the_next_frame_is_read_while_a_frame_is_computed(contrast_bundle: Path) -> None:
    read: list[int] = []

    def images() -> Iterator[UInt8Array]:
        for number, image in enumerate(square_images(8)):
            read.append(number)
            yield image

    options = foveate.PipelineOptions(max_in_flight=3)
    with foveate.load(contrast_bundle, options=options) as pipeline:
        ahead = [len(read) - done for done, _ in enumerate(pipeline.video(images()))]
    assert ahead == [3, 3, 3, 3, 3, 3, 2, 1]


def test_the_latest_frame_is_processed_and_others_are_dropped(pipeline: Pipeline) -> None:
    results = pipeline.video(square_images(500), policy="latest")
    indices = []
    for frame, detections in results:
        indices.append(frame.index)
        assert detections.names[0] == "red"
    frames = results.frames
    assert indices[-1] == 499
    assert indices == sorted(set(indices))
    assert results.done == len(indices) < 500
    assert frames.read == 500
    assert frames.dropped == 500 - len(indices)


def test_results_before_a_cut_are_kept(pipeline: Pipeline, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.avi", square_images(20))
    cut(clip, 0.5)
    results = pipeline.video(clip)
    with pytest.raises(InputError, match="the video ends at"):
        for _ in results:
            pass
    assert 5 <= results.done == results.frames.read <= 12


def test_results_before_a_camera_vanishes_are_kept(pipeline: Pipeline) -> None:
    camera = StandIn(square_images(3), gone())
    results = pipeline.video(camera, policy="every")
    with pytest.raises(InputError, match="the camera is gone: connect it"):
        list(results)
    assert camera.closed
    assert results.done == 3


def test_a_video_may_change_its_size(pipeline: Pipeline) -> None:
    small, large = np.zeros((90, 130, 3), np.uint8), np.zeros((200, 170, 3), np.uint8)
    shapes = [detections.masks.shape[1:] for _, detections in pipeline.video([small, large, small])]
    assert shapes == [(90, 130), (200, 170), (90, 130)]


def test_an_abandoned_video_releases_its_source(pipeline: Pipeline) -> None:
    camera = StandIn(square_images(10**6))
    with pipeline.video(camera, policy="every") as results:
        next(results)
    assert camera.closed
    assert len(pipeline(next(square_images(1)))) > 0


@pytest.mark.parametrize("policy", ["every", "latest"])
def test_another_thread_ends_a_video_by_closing_it(pipeline: Pipeline, policy: str) -> None:
    results = pipeline.video(square_images(10**9), policy=policy)
    begun, done = threading.Event(), list[int]()

    def work() -> None:
        for _ in results:
            begun.set()
        done.append(results.done)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert begun.wait(20)
    results.close()
    thread.join(20)
    assert done == [results.done]


def test_a_policy_is_given_once(pipeline: Pipeline) -> None:
    frames = Frames([], policy="every")
    with pytest.raises(OptionError, match="Frames already have a policy: pass it to Frames"):
        pipeline.video(frames, policy="latest")
    assert list(pipeline.video(frames)) == []


def test_a_pipeline_that_cannot_classify_or_is_closed_takes_no_video(
    proposing_bundle: Path,
) -> None:
    opened = foveate.load(proposing_bundle)
    with opened, pytest.raises(BundleError, match="the bundle only proposes"):
        opened.video([])
    with pytest.raises(BackendError, match="the pipeline is closed"):
        opened.video([])


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["every", "latest"])
def test_memory_does_not_grow_over_10000_frames(contrast_bundle: Path, policy: str) -> None:
    """Each frame is a new array of 58 kB, so that keeping all of them would take 580 MB."""
    images = list(square_images(40))

    def frames() -> Iterator[UInt8Array]:
        for number in itertools.count():
            yield images[number % 40].copy()
            if policy == "latest":
                time.sleep(0.001)

    options = foveate.PipelineOptions(top_k=1, threads=1, scales=(1.0,))
    with (
        foveate.load(contrast_bundle, options=options) as pipeline,
        pipeline.video(frames(), policy=policy) as results,
    ):
        peaks = []
        for _ in itertools.takewhile(lambda _: results.frames.read < 10_000, results):
            if results.frames.read > 1000:
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert HEIGHT * WIDTH * 3 * 9000 > 500e6
    assert peaks[-1] - peaks[0] < 20_000  # kilobytes
