# SPDX-License-Identifier: Apache-2.0
"""Metrics for Prometheus, by the names of Triton where it has one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import GaugeMetricFamily, UntypedMetricFamily
from prometheus_client.metrics_core import Metric

from foveate.serve.admission import Admission
from foveate.serve.call import Call
from foveate.serve.pipelines import RecordedPipeline

CLIENT_GONE = 499  # nginx's status for a request whose client left, which no client ever gets

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_PIXELS = (1e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 3e8)

_COUNTS = {
    "nv_inference_request_success": "Number of successful inference requests",
    "nv_inference_count": "Number of inferences performed, one per image",
    "nv_inference_exec_count": "Number of inferences performed, since images are not batched",
    "nv_inference_request_duration_us": "Cumulative time of inference requests",
    "nv_inference_queue_duration_us": "Cumulative time that requests waited for a slot",
    "nv_inference_compute_input_duration_us": "Cumulative time in which images were decoded",
    "nv_inference_compute_infer_duration_us": "Cumulative time in which pipelines worked",
    "nv_inference_compute_output_duration_us": "Cumulative time in which answers were encoded",
}
_ONCE = ("nv_inference_request_success", "nv_inference_count", "nv_inference_exec_count")


class Metrics:
    """The metrics of a server, in a registry of its own.

    Args:
        model: Name of the model.
        admission: The slots and the queue.
        pipelines: The pipelines.
    """

    def __init__(
        self, model: str, admission: Admission, pipelines: Sequence[RecordedPipeline]
    ) -> None:
        self._registry = CollectorRegistry()
        self._triton = _Triton(model, admission, pipelines)
        self._registry.register(self._triton)
        ProcessCollector(registry=self._registry)
        self._requests = PrometheusCounter(
            "foveate_requests", "Number of requests", ("route", "status"), registry=self._registry
        )
        self._seconds = self._histogram("request_seconds", "Time of an inference request", _SECONDS)
        self._waiting = self._histogram("waiting_seconds", "Time until it had a slot", _SECONDS)
        self._pixels = self._histogram("image_pixels", "Pixels of an image", _PIXELS)
        self._stages = Histogram(
            "foveate_stage_seconds",
            "Time of a part of an image's work: decode, each network, encode",
            ("stage",),
            buckets=_SECONDS,
            registry=self._registry,
        )

    def record(self, call: Call, status: int, *, infers: bool) -> None:
        """Count a request that was answered.

        Args:
            call: The request.
            status: Status of its answer.
            infers: Whether it is a request for an inference.
        """
        self._requests.labels(call.route or "none", str(status)).inc()
        if not infers:
            return
        self._triton.record(call, status)
        self._seconds.observe(call.seconds)
        if call.waiting is not None:
            self._waiting.observe(call.waiting)
        if call.pixels is not None:
            self._pixels.observe(call.pixels)
        for stage, seconds in call.times.items():
            self._stages.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """Return the metrics in the text format of Prometheus."""
        content: bytes = generate_latest(self._registry)
        return content

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"foveate_{name}", text, buckets=buckets, registry=self._registry)


class _Triton:
    """The metrics that Triton has too. Its counters lack the suffix that the client would add."""

    def __init__(
        self, model: str, admission: Admission, pipelines: Sequence[RecordedPipeline]
    ) -> None:
        self._labels = {"model": model, "version": "1"}
        self._admission = admission
        self._memory = pipelines[0].memory
        self._counts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()

    def record(self, call: Call, status: int) -> None:
        if status >= 400:
            self._failures[_reason(status)] += 1
            return
        self._counts.update(_ONCE)
        seconds = {
            "request": call.seconds,
            "queue": call.waiting or 0.0,
            "compute_input": call.times.get("decode", 0.0),
            "compute_infer": call.times.get("pipeline", 0.0),
            "compute_output": call.times.get("encode", 0.0),
        }
        for part, taken in seconds.items():
            self._counts[f"nv_inference_{part}_duration_us"] += round(taken * 1e6)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as registries of the client require."""
        for name, text in _COUNTS.items():
            metric = UntypedMetricFamily(name, text)
            metric.add_sample(name, self._labels, self._counts[name])
            yield metric
        name = "nv_inference_request_failure"
        failures = UntypedMetricFamily(name, "Number of failed inference requests")
        for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER"):
            failures.add_sample(name, {**self._labels, "reason": reason}, self._failures[reason])
        yield failures
        gauges = {
            "nv_inference_pending_request_count": self._admission.waiting,
            "foveate_slots": self._admission.slots,
            "foveate_slots_busy": self._admission.busy,
        }
        for name, value in gauges.items():
            gauge = GaugeMetricFamily(name, _GAUGES[name])
            gauge.add_sample(name, self._labels, value)
            yield gauge
        yield from self._gpu_memory()

    def _gpu_memory(self) -> Iterator[Metric]:
        """Yield the memory of the GPU; nothing on the CPU."""
        if self._memory is None:
            return
        free, total = self._memory()
        yield GaugeMetricFamily("nv_gpu_memory_total_bytes", "Memory of the GPU", total)
        yield GaugeMetricFamily("nv_gpu_memory_used_bytes", "Memory of it in use", total - free)


_GAUGES = {
    "nv_inference_pending_request_count": "Number of requests that wait for a slot",
    "foveate_slots": "Number of images that can be processed at a time",
    "foveate_slots_busy": "Number of images that are processed",
}


def _reason(status: int) -> str:
    """Return Triton's name for the reason of a failure."""
    if status in (429, 503, 504):
        return "REJECTED"
    if status == CLIENT_GONE:
        return "CANCELED"
    return "BACKEND" if status >= 500 else "OTHER"
