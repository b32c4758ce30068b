# SPDX-License-Identifier: Apache-2.0
"""The times of the stages, and that recording them changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.samples.images import square_image

import foveate
from foveate.bundle import Bundle
from foveate.page import TimedPipeline
from foveate.runtime import Pipeline
from foveate.runtime.devices import CpuDevice, Device
from foveate.runtime.loading import open_engines

STAGES = ["propose", "refine", "features", "classify", "other"]
IMAGE = square_image(200, 300, (40, 60, 120, 140))


class ForeignDevice:
    """A device whose streams are not recorded, as those of a GPU are not."""

    def __init__(self) -> None:
        self._device = CpuDevice()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)


@pytest.fixture
def timed(contrast_bundle: Path) -> Iterator[TimedPipeline]:
    timed = TimedPipeline(foveate.load(contrast_bundle))
    with timed.pipeline:
        yield timed


def test_findings_are_those_without_times(timed: TimedPipeline, contrast_bundle: Path) -> None:
    found, stages = timed.find(IMAGE)
    with foveate.load(contrast_bundle) as pipeline:
        expected = pipeline.find(IMAGE)
    assert list(stages) == STAGES
    assert min(stages.values()) > 0
    np.testing.assert_array_equal(found.detections.boxes, expected.detections.boxes)
    np.testing.assert_array_equal(found.proposals.scores, expected.proposals.scores)


def test_each_image_of_a_stream_has_times_of_its_own(timed: TimedPipeline) -> None:
    images = [IMAGE, IMAGE[:40, :60], IMAGE]
    times = [stages["propose"] for _, stages in timed.stream(images)]
    assert len(set(times)) == 3


def test_threads_may_share_it(timed: TimedPipeline) -> None:
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda _: timed.find(IMAGE), range(6)))
    assert [list(stages) for _, stages in found] == [STAGES] * 6


def test_where_stages_are_not_recorded_the_total_is(contrast_bundle: Path) -> None:
    bundle, device = Bundle.open(contrast_bundle), CpuDevice()
    foreign = cast("Device", ForeignDevice())
    timed = TimedPipeline(Pipeline(bundle, open_engines(bundle, device), device=foreign))
    with timed.pipeline:
        _, stages = timed.find(IMAGE)
    assert list(stages) == ["total"]
    assert stages["total"] > 0
