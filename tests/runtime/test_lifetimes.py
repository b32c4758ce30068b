# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.samples.images import write_small_cat

import foveate
from foveate.arrays import UInt8Array
from foveate.bundle import Bundle
from foveate.errors import BackendError, BundleError, InputError
from foveate.runtime.devices import CpuDevice
from foveate.runtime.engines.cpu import FunctionEngine
from foveate.runtime.loading import open_engines
from foveate.runtime.pipeline import Pipeline
from foveate.runtime.slot import Slot

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
CLOSED = "^the pipeline is closed: load it again$"


@pytest.mark.parametrize(
    "use",
    [
        lambda pipeline: pipeline(IMAGE),
        lambda pipeline: pipeline([IMAGE]),
        lambda pipeline: pipeline.propose(IMAGE),
        lambda pipeline: pipeline.stream([IMAGE]),
        lambda pipeline: pipeline.__enter__(),
    ],
)
def test_every_use_of_a_closed_pipeline_says_that_it_is_closed(
    contrast_bundle: Path, use: Any
) -> None:
    with foveate.load(contrast_bundle) as pipeline:
        pipeline(IMAGE)
    with pytest.raises(BackendError, match=CLOSED):
        use(pipeline)


def test_closing_twice_does_nothing(contrast_bundle: Path) -> None:
    with foveate.load(contrast_bundle) as pipeline:
        pipeline.close()
        pipeline.close()


@pytest.mark.parametrize("images", [2, 5])
def test_a_stream_that_was_begun_says_that_its_pipeline_is_closed(
    contrast_bundle: Path, images: int
) -> None:
    pipeline = foveate.load(contrast_bundle)
    begun = pipeline.stream([IMAGE] * images)
    next(begun)
    pipeline.close()
    with pytest.raises(BackendError, match=CLOSED):
        next(begun)


def test_closing_while_other_threads_stream_ends_them_with_that_error(
    contrast_bundle: Path,
) -> None:
    pipeline = foveate.load(contrast_bundle)
    running, errors = threading.Barrier(4), list[str]()

    def work() -> None:
        begun = pipeline.stream(IMAGE for _ in range(10_000))
        next(begun)
        running.wait(20)
        try:
            for _ in begun:
                pass
        except BackendError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    running.wait(20)
    pipeline.close()
    for thread in threads:
        thread.join(20)
    assert errors == ["the pipeline is closed: load it again"] * 3


class _Counting:
    """An engine that counts how often it was closed, and knows when a run is in progress."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.closed = 0

        self.capturable, self.rows_at_once = engine.capturable, engine.rows_at_once
        self.rows_for = engine.rows_for

    def bind(self, *args: Any, **options: Any) -> Callable[[], None]:
        run = self._engine.bind(*args, **options)

        def checked() -> None:
            assert not self.closed
            run()

        return checked

    def close(self) -> None:
        self.closed += 1


def test_engines_are_closed_once_and_not_before_the_last_image_in_flight_is_done(
    contrast_bundle: Path,
) -> None:
    bundle = Bundle.open(contrast_bundle)
    engines = {
        name: _Counting(one) for name, one in open_engines(bundle, CpuDevice(), "auto", 1).items()
    }
    pipeline = Pipeline(bundle, engines)
    begun = pipeline.stream([IMAGE] * 4)
    next(begun)
    pipeline.close()
    assert {engine.closed for engine in engines.values()} == {0}
    del begun
    pipeline.close()
    assert {engine.closed for engine in engines.values()} == {1}


def test_a_pipeline_that_cannot_be_made_leaves_no_threads(contrast_bundle: Path) -> None:
    bundle = Bundle.open(contrast_bundle)
    engines = open_engines(bundle, CpuDevice(), "auto", 2)
    del engines["refine"]
    before = threading.active_count()
    with pytest.raises(foveate.BundleError, match="the stage 'refine' has no engine"):
        Pipeline(bundle, engines)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "images",
    [
        "video.mp4",
        Path("video.mp4"),
        b"abc",
        bytearray(3),
        memoryview(b"abc"),
        {"a": 1},
        None,
        3,
        IMAGE,
    ],
)
def test_stream_refuses_what_is_no_iterable_of_images_at_once(
    contrast_bundle: Path, images: Any
) -> None:
    with foveate.load(contrast_bundle) as pipeline:
        expected = (
            f"^stream needs an iterable of images, found {type(images).__name__}: pass a list"
        )
        with pytest.raises(InputError, match=expected):
            pipeline.stream(images)


@pytest.mark.parametrize("image", [b"abc", bytearray(3), memoryview(b"abc"), {"a": 1}, None, 3])
def test_what_is_no_image_is_named_by_its_type(contrast_bundle: Path, image: Any) -> None:
    expected = f"found {type(image).__name__}"
    with foveate.load(contrast_bundle) as pipeline, pytest.raises(InputError, match=expected):
        pipeline(image)


def test_an_error_of_the_iterable_passes_unchanged_after_the_images_before_it(
    contrast_bundle: Path,
) -> None:
    failure = LookupError("the camera is gone")

    def source() -> Iterator[UInt8Array]:
        yield IMAGE
        yield IMAGE
        yield IMAGE
        raise failure

    with foveate.load(
        contrast_bundle, options=foveate.PipelineOptions(max_in_flight=3)
    ) as pipeline:
        begun = pipeline.stream(source())
        assert [len(next(begun).masks.shape) for _ in range(3)] == [3] * 3
        with pytest.raises(LookupError) as caught:
            next(begun)
    assert caught.value is failure


class Counting(CpuDevice):
    """Counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_the_device_is_closed_once_with_the_pipeline(contrast_bundle: Path) -> None:
    bundle, device = Bundle.open(contrast_bundle), Counting()
    pipeline = Pipeline(bundle, open_engines(bundle, device, "auto"), device=device)
    pipeline(IMAGE)
    assert device.closed == 0
    pipeline.close()
    pipeline.close()
    assert device.closed == 1


def test_a_stream_of_a_bundle_that_only_proposes_is_refused_at_once(proposing_bundle: Path) -> None:
    with foveate.load(proposing_bundle) as pipeline, pytest.raises(BundleError, match="proposes"):
        pipeline.stream([IMAGE])


def test_proposals_are_all_classified_where_the_manifest_suppresses_none(
    contrast_bundle: Path,
) -> None:
    alike = np.zeros((90, 120, 3), np.uint8)
    alike[30:60, 30:60] = 255
    options = foveate.PipelineOptions(score_threshold=0, class_nms_iou=1.0, max_detections=100)
    found = []
    for iou in (None, 0.05):
        with foveate.load(contrast_bundle, options=replace(options, proposal_nms_iou=iou)) as one:
            found.append((len(one(alike)), len(one.propose(alike))))
    (all_found, proposed), (fewer, again) = found
    assert proposed == again
    assert all_found > fewer


def test_the_memory_of_an_image_that_failed_is_free_at_once(contrast_bundle: Path) -> None:
    """Without the garbage collector, which does not see how large the arrays of a cycle are."""
    bundle = Bundle.open(contrast_bundle)
    engines = open_engines(bundle, CpuDevice(), "auto", 1)
    spec = bundle.manifest.stages["features"]

    def broken(inputs: Any) -> Any:
        raise RuntimeError(f"broken at {inputs['image'].shape}")

    engines["features"] = FunctionEngine(spec.inputs, spec.outputs, broken)
    gc.collect()
    gc.disable()
    try:
        with Pipeline(bundle, engines) as pipeline:
            for _ in range(3):
                with suppress(RuntimeError):
                    pipeline(IMAGE)
            # `isinstance` would ask some objects of other libraries for their class, which warn.
            assert [one for one in gc.get_objects() if type(one) is Slot] == []
    finally:
        gc.enable()


def test_a_pipeline_that_cannot_be_created_closes_its_parts(contrast_bundle: Path) -> None:
    class Closing(CpuDevice):
        def close(self) -> None:
            closed.append("device")

    closed: list[str] = []
    bundle, device = Bundle.open(contrast_bundle), Closing()
    engines = open_engines(bundle, device)
    refine = engines.pop("refine")
    with pytest.raises(BundleError, match="the stage 'refine' has no engine"):
        Pipeline(bundle, engines, device=device)
    assert closed == ["device"]
    opened = [one._session for one in engines.values()]  # type: ignore[attr-defined]  # ONNX Runtime's
    assert opened == [None] * len(engines)
    refine.close()


AFTER_THE_MAIN_THREAD = """
import atexit, sys, threading
import foveate
from foveate.bundle import Bundle
from foveate.export.checks.bundle_report import inspect_bundle

bundle, image = sys.argv[1:]
loaded, mini = foveate.load(bundle), foveate.load("mini", preset="fast")
in_time = len(loaded(image))

def work():
    threading.main_thread().join()
    with foveate.load(bundle) as pipeline:
        found = [len(one) for one in pipeline.stream([image] * 3)]
    stages = inspect_bundle(Bundle.open(bundle)).stages
    print(in_time == len(loaded(image)), found == 3 * [in_time], len(stages), flush=True)

def work_for_ever():  # nearly all of the time inside an engine
    while True:
        mini(image)

threading.Thread(target=work).start()
threading.Thread(target=work_for_ever, daemon=True).start()
atexit.register(lambda: print(in_time == len(loaded(image))))
"""


def test_threads_and_exit_handlers_use_pipelines_after_the_main_thread(
    contrast_bundle: Path, tmp_path: Path
) -> None:
    image = write_small_cat(tmp_path / "cat.png")
    words = [sys.executable, "-c", AFTER_THE_MAIN_THREAD, str(contrast_bundle), str(image)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True 4\nTrue\n", "")
