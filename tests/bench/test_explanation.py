# SPDX-License-Identifier: Apache-2.0
"""The limits and the advice that follow from a record: each figure of it in its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.bench.simulated import noisy, simulated_record
from tests.bench.works import CEILINGS

from foveate.bench.advice import Advice, Situation, StageTime, advise
from foveate.bench.command import Command
from foveate.bench.explanation import explained
from foveate.bench.figures import Floor
from foveate.bench.limits import count_stages
from foveate.bench.options import BenchOptions
from foveate.bench.percentiles import distribution
from foveate.bench.record import Record
from foveate.bench.session import Target
from foveate.bundle import Bundle
from foveate.runtime import PipelineOptions
from foveate.runtime.sizes import Sizes

COMMAND = Command(arguments=("contrast",))
STAGES = ("propose", "refine")


def times(seconds: float) -> list[float]:
    """Return ten times whose median is known, and whose mean is another one."""
    return [seconds] * 9 + [9 * seconds]


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


def test_the_advice_follows_from_the_medians_of_the_record(
    record: Record, contrast_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Situation] = []

    def noted(found: Situation) -> list[Advice]:
        seen.append(found)
        return advise(found)

    monkeypatch.setattr("foveate.bench.explanation.advise", noted)
    processor = replace(record.machine.processor, others=0.03, steal=0.04, cores=12)
    measured = replace(
        record,
        machine=replace(record.machine, processor=processor),
        scenario=replace(record.scenario, name="offline", in_flight=3),
        latency=distribution(times(0.2)),
        waiting=distribution(times(0.05)),
        floor=Floor(rate=None, latency=distribution(times(0.001)), share=None),
        parts=replace(
            record.parts,
            processing=distribution(times(0.15)),
            device=distribution(times(0.11)),
            copies=distribution(times(0.02)),
        ),
        stages={name: distribution(times(0.03 + n)) for n, name in enumerate(STAGES)},
        operations={"nms": distribution(times(0.004)), "resize": distribution(times(0.003))},
        subject=replace(record.subject, precision={"propose": "fp32", "refine": "int8"}),
    )
    found = explain(measured, contrast_bundle, monkeypatch)
    (one,) = seen
    assert (one.command, one.scenario, one.device) == (COMMAND, "offline", "cpu")
    assert (one.backend, one.top_k, one.in_flight) == ("onnxruntime", 7, 3)
    assert (one.latency, one.waiting, one.floor, one.copies) == (0.2, 0.05, 0.001, 0.02)
    assert (one.operations, one.idle) == pytest.approx((0.007, 0.04))
    assert (one.threads, one.cores) == (12, 12)
    assert one.others == pytest.approx(0.07)
    propose, refine = one.stages
    assert found.limits is not None
    line = found.limits["stages"]["propose"]["roofline"]
    assert propose == StageTime(
        name="propose", seconds=0.03, precision="fp32", bound=line["bound"], ratio=line["ratio"]
    )
    assert (refine.seconds, refine.precision, refine.ratio) == (1.03, "int8", None)
    assert found.advice == tuple(advise(one))


def test_too_few_images_for_a_median_give_limits_without_advice(
    record: Record, contrast_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(record, latency=distribution([0.1] * 5))
    found = explain(few, contrast_bundle, monkeypatch)
    assert found.limits is not None
    assert found.advice is None
