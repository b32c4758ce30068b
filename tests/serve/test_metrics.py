# SPDX-License-Identifier: Apache-2.0
"""Metrics that need what the machine of the tests has not, or a request that does not succeed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

from prometheus_client.parser import text_string_to_metric_families

import foveate
from foveate.serve.admission import Admission
from foveate.serve.call import Call
from foveate.serve.metrics import Metrics
from foveate.serve.pipelines import RecordedPipeline


@pytest.fixture
def recorded(contrast_bundle: Path) -> Iterator[RecordedPipeline]:
    with foveate.load(contrast_bundle) as pipeline:
        yield RecordedPipeline(pipeline)


def values(metrics: Metrics) -> dict[tuple[str, str], float]:
    """The samples, by name and reason, as Prometheus reads them."""
    return {
        (sample.name, sample.labels.get("reason", "")): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def metrics_of(recorded: RecordedPipeline) -> Metrics:
    return Metrics("finder", Admission([recorded], slots=3, queue=0), [recorded])


def test_the_memory_of_a_gpu_is_reported(recorded: RecordedPipeline) -> None:
    assert recorded.memory is None
    assert ("nv_gpu_memory_used_bytes", "") not in values(metrics_of(recorded))
    recorded.memory = lambda: (30, 100)  # free and all bytes
    found = values(metrics_of(recorded))
    assert found["nv_gpu_memory_total_bytes", ""] == 100
    assert found["nv_gpu_memory_used_bytes", ""] == 70


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        *((429, "REJECTED"), (503, "REJECTED"), (504, "REJECTED")),
        *((499, "CANCELED"), (500, "BACKEND"), (400, "OTHER"), (413, "OTHER")),
    ],
)
def test_failures_have_the_reasons_of_triton(
    recorded: RecordedPipeline, status: int, reason: str
) -> None:
    metrics = metrics_of(recorded)
    metrics.record(Call(id="one"), status, infers=True)
    found = values(metrics)
    failures = {key[1]: value for key, value in found.items() if key[0].endswith("_failure")}
    assert failures == {**dict.fromkeys(("REJECTED", "CANCELED", "BACKEND", "OTHER"), 0), reason: 1}
    assert found["nv_inference_request_success", ""] == 0


def test_the_times_of_an_inference_are_counted_in_their_units(recorded: RecordedPipeline) -> None:
    metrics = metrics_of(recorded)
    call = Call(
        id="one",
        route="/v1/objects",
        started=time.perf_counter() - 20,
        waiting=0.25,
        pixels=4800,
        times={"decode": 0.01, "pipeline": 0.5, "encode": 0.03},
    )
    for _ in range(2):
        metrics.record(call, 200, infers=True)
    found = values(metrics)
    assert found["nv_inference_request_success", ""] == found["nv_inference_count", ""] == 2
    assert found["nv_inference_request_duration_us", ""] == pytest.approx(40e6, rel=0.1)
    assert found["nv_inference_queue_duration_us", ""] == 500_000
    assert found["nv_inference_compute_input_duration_us", ""] == 20_000
    assert found["nv_inference_compute_infer_duration_us", ""] == 1_000_000
    assert found["nv_inference_compute_output_duration_us", ""] == 60_000
    assert found["foveate_request_seconds_sum", ""] == pytest.approx(40, rel=0.1)
    assert found["foveate_waiting_seconds_sum", ""] == 0.5
    assert found["foveate_image_pixels_sum", ""] == 9600
    assert (found["foveate_slots", ""], found["foveate_slots_busy", ""]) == (3, 0)


def test_requests_without_an_image_are_no_inferences(recorded: RecordedPipeline) -> None:
    metrics = metrics_of(recorded)
    metrics.record(Call(id="one", route="/v1/bundle"), 200, infers=False)
    found = values(metrics)
    assert found["nv_inference_request_success", ""] == 0
    assert found["foveate_requests_total", ""] == 1
