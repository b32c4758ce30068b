# SPDX-License-Identifier: Apache-2.0
"""When slots are made, kept and released, on a device with little memory."""

from __future__ import annotations

import logging
import weakref
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.samples.images import square_image

import foveate
from foveate.errors import OutOfMemoryError
from foveate.runtime.devices import CpuBuffer, CpuDevice
from foveate.runtime.loading import open_engines
from foveate.runtime.pipeline import Pipeline
from foveate.runtime.sizes import Sizes
from foveate.runtime.slot import Slot

SIZES = [(60, 90), (90, 60), (70, 90)]


class SmallDevice(CpuDevice):
    """The CPU with little memory, whose slots are kept as on a GPU.

    Args:
        capacity: Bytes.
    """

    name = "small"

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.used = 0

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> CpuBuffer:
        size = prod(shape) * dtype.itemsize
        if self.used + size > self.capacity:
            raise OutOfMemoryError("the device is full")
        self.used += size
        buffer = super().allocate(shape, dtype)
        weakref.finalize(buffer.array, self._free, size)
        return buffer

    def _free(self, size: int) -> None:
        self.used -= size


def small_pipeline(directory: Path, capacity: int, max_in_flight: int) -> Pipeline:
    bundle, device = foveate.Bundle.open(directory), SmallDevice(capacity)
    options = foveate.PipelineOptions(max_in_flight=max_in_flight)
    engines = open_engines(bundle, CpuDevice(), threads=1)
    return Pipeline(bundle, engines, device=device, options=options)


@pytest.fixture(scope="module")
def slot_size(contrast_bundle: Path) -> int:
    """Bytes that the device takes for an image of the largest of the sizes."""
    with small_pipeline(contrast_bundle, 1 << 40, 1) as pipeline:
        pipeline(np.zeros((*SIZES[0], 3), np.uint8))
        device: Any = pipeline.device
        used: int = device.used
    return used


def test_a_stream_goes_on_with_fewer_images_if_memory_runs_out(
    contrast_bundle: Path, slot_size: int, caplog: pytest.LogCaptureFixture
) -> None:
    images = [square_image(60, 90, (5 + i, 10, 30 + i, 40)) for i in range(6)]
    with foveate.load(contrast_bundle) as plenty:
        expected = [detections.boxes.tolist() for detections in plenty(images)]
    with (
        caplog.at_level(logging.WARNING),
        small_pipeline(contrast_bundle, int(2.5 * slot_size), 4) as pipeline,
    ):
        found = [detections.boxes.tolist() for detections in pipeline.stream(images)]
        again = [detections.boxes.tolist() for detections in pipeline.stream(images)]
    assert found == again == expected
    texts = [record.getMessage() for record in caplog.records]
    assert texts == ["max_in_flight is now 2: the device is full"]


def test_an_image_that_does_not_fit_is_an_error_and_the_next_one_that_fits_is_not(
    contrast_bundle: Path, slot_size: int
) -> None:
    with small_pipeline(contrast_bundle, int(1.5 * slot_size), 2) as pipeline:
        with pytest.raises(OutOfMemoryError, match="the device is full"):
            pipeline(np.zeros((900, 1000, 3), np.uint8))
        assert len(pipeline(square_image(60, 90, (5, 10, 30, 40)))) > 0


@pytest.mark.parametrize(("fits", "made"), [(1.5, 6), (20.0, 3)])
def test_slots_of_other_sizes_are_kept_where_memory_allows(
    contrast_bundle: Path, slot_size: int, monkeypatch: pytest.MonkeyPatch, fits: float, made: int
) -> None:
    pipeline = small_pipeline(contrast_bundle, int(fits * slot_size), 1)
    first, start = [], Slot.start

    def noting(slot: Slot, *arguments: Any) -> None:
        is_new = not slot._programs
        start(slot, *arguments)
        first.append(is_new)

    monkeypatch.setattr(Slot, "start", noting)
    with pipeline:
        for height, width in 2 * SIZES:
            pipeline(np.zeros((height, width, 3), np.uint8))
    assert len(first) == 6
    assert sum(first) == made


def test_free_slots_are_released_if_the_first_run_needs_their_memory(
    contrast_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Slot.launch
    with small_pipeline(contrast_bundle, 1 << 40, 1) as pipeline:

        def scarce(slot: Slot, *arguments: Any) -> None:
            if pipeline._slots._free:
                raise OutOfMemoryError("the device is full")
            launch(slot, *arguments)

        monkeypatch.setattr(Slot, "launch", scarce)
        for height, width in SIZES:
            pipeline(np.zeros((height, width, 3), np.uint8))
        assert len(pipeline._slots._free) == 1


def test_no_more_free_slots_are_kept_than_images_in_flight(contrast_bundle: Path) -> None:
    options = foveate.PipelineOptions(max_in_flight=1)
    with foveate.load(contrast_bundle, options=options) as pipeline:
        sizes, image = Sizes.of(60, 90, pipeline.manifest), np.zeros((60, 90, 3), np.uint8)

        def start() -> Slot:
            return pipeline._slots.start(image, "detections", sizes)

        first, second = start(), start()  # as two threads do
        pipeline._slots.give_back(first)
        pipeline._slots.give_back(second)
        assert start() is first
        assert start() is not second
        for _ in range(2):
            pipeline._slots.give_back(None)


def test_a_slot_is_released_before_one_of_other_sizes_is_made(
    contrast_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init, alive = Slot.__init__, list[bool]()
    with foveate.load(contrast_bundle) as pipeline:
        pipeline.propose(np.zeros((40, 60, 3), np.uint8))
        former = weakref.ref(pipeline._slots._free[0])

        def watch(slot: Slot, *arguments: Any) -> None:
            alive.append(former() is not None)
            init(slot, *arguments)

        monkeypatch.setattr(Slot, "__init__", watch)
        pipeline.propose(np.zeros((60, 40, 3), np.uint8))
    assert alive == [False]


@pytest.mark.parametrize("method", ["synchronize", "launch"])
def test_an_interruption_releases_the_slot(
    contrast_bundle: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    closed = []
    with foveate.load(contrast_bundle) as pipeline:
        monkeypatch.setattr(pipeline.device, "close", lambda: closed.append(True))
        original = getattr(Slot, method)

        def interrupted(slot: Slot, *arguments: Any) -> None:
            original(slot, *arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Slot, method, interrupted)
            with pytest.raises(KeyboardInterrupt):
                pipeline(np.zeros((60, 90, 3), np.uint8))
        assert pipeline._slots.in_use == 0
        pipeline(np.zeros((60, 90, 3), np.uint8))
    assert closed == [True]
