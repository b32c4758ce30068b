# SPDX-License-Identifier: Apache-2.0
"""The limits and the advice that follow from a record: each figure of it in its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.bench.simulated import noisy, simulated_record
from tests.bench.works import CEILINGS

from foveate.bench.advice import Command, advise
from foveate.bench.explanation import explained
from foveate.bench.limits import count_stages
from foveate.bench.options import BenchOptions
from foveate.bench.percentiles import distribution
from foveate.bench.record import Record
from foveate.bench.session import Target
from foveate.bundle import Bundle
from foveate.runtime import PipelineOptions
from foveate.runtime.sizes import Sizes

COMMAND = Command(arguments=("contrast",))


@pytest.fixture
def record() -> Record:
    """A record of two images, of which the second was measured most often after the warm-up."""
    record = simulated_record(
        noisy(0), BenchOptions(seconds=5, warm_up=0, tolerance=0, count=10), images=2
    )
    count = len(record.samples.input)
    small, large = replace(record.inputs[0], width=80), replace(record.inputs[1], width=130)
    samples = replace(
        record.samples,
        input=tuple(int(number >= 7) for number in range(count)),
        warm_up=tuple(number < 5 for number in range(count)),
        stages={
            "propose": tuple(0.001 * (number + 1) ** 2 for number in range(count)),
            "refine": (None,) * count,
        },
    )
    return replace(record, inputs=(small, large), samples=samples)


def explain(record: Record, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setattr("foveate.bench.explanation.measure_ceilings", lambda *_, **__: CEILINGS)
    options = PipelineOptions(top_k=7, threads=1)
    target = Target(bundle=str(bundle), device="cpu", backend="auto", options=options)
    return explained(record, target, Bundle.open(bundle), COMMAND)


def test_the_limits_are_those_of_the_image_that_was_measured_most_often(
    record: Record, contrast_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(contrast_bundle)
    manifest = PipelineOptions(top_k=7).applied_to(bundle.manifest)
    found = explain(record, contrast_bundle, monkeypatch).limits
    assert found is not None
    work = count_stages(
        bundle, manifest, Sizes.of(48, 130, manifest), boxes=7, on_cpu=True, threads=1
    )
    for stage, one in work.items():
        assert found["stages"][stage]["bytes"] == one.bytes
    kept = record.samples.stages["propose"][7:]
    middle = kept[2]  # they increase
    assert found["stages"]["propose"]["roofline"]["seconds"] == middle
    assert found["stages"]["refine"]["roofline"]["seconds"] is None


def test_the_advice_follows_from_the_record_and_the_options(
    record: Record, contrast_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = replace(record.machine.processor, others=0.0, steal=None)
    operations = {"nms": distribution([0.05] * 10)}
    machine = replace(record.machine, processor=processor)
    found = explain(
        replace(record, machine=machine, operations=operations), contrast_bundle, monkeypatch
    )
    assert found.advice is not None
    assert [one.command for one in found.advice] == ["foveate bench contrast --top-k 3"]
    assert found.advice == tuple(advise(found, COMMAND, top_k=7))


def test_too_few_images_for_a_median_give_limits_without_advice(
    record: Record, contrast_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(record, latency=distribution([0.1] * 5))
    found = explain(few, contrast_bundle, monkeypatch)
    assert found.limits is not None
    assert found.advice is None
