# SPDX-License-Identifier: Apache-2.0
"""Sweeps whose figures are known."""

from __future__ import annotations

from typing import Any

from foveate.bench.comparison import Ratio
from foveate.bench.machine import Machine, Processor
from foveate.bench.sweep_record import (
    Configuration,
    DatasetResult,
    Figure,
    Point,
    SweepRecord,
    SweptDataset,
)

ALL = (0.25, 0.3536, 0.5, 0.7071, 1.0, 1.4142)


def ratio(value: float) -> Ratio:
    return Ratio(
        name="latency, median per image",
        baseline=1.0,
        candidate=value,
        value=value,
        low=0.98 * value,
        high=1.02 * value,
    )


def result(recall: float | None, time: float | None = None) -> DatasetResult:
    figures = {
        f"mask {name}": Figure(value=recall, low=recall, high=recall)
        for name in ("AR@10", "AR@100", "AR@100, large", "AP")
    }
    return DatasetResult(figures=figures, time=None if time is None else ratio(time))


def point(
    recalls: tuple[float | None, ...],
    time: float | None = None,
    scales: tuple[float, ...] = ALL,
    **changes: Any,
) -> Point:
    """Return a configuration with its average recall on the data sets "a", "b" and so on."""
    values: dict[str, Any] = {
        "bundle": "contrast",
        "precision": {"propose": "fp32"},
        "scales": scales,
        "top_k": 20,
        "max_side": 256,
        "window_nms_iou": 0.618,
        "threads": None,
        "max_in_flight": 2,
    }
    return Point(
        configuration=Configuration(**(values | changes)),
        time=None if time is None else ratio(time),
        datasets={name: result(recall, time) for name, recall in zip("abc", recalls, strict=False)},
    )


def sweep_of(points: list[Point], **changes: Any) -> SweepRecord:
    processor: dict[str, Any] = dict.fromkeys(Processor.__annotations__)
    values: dict[str, Any] = {
        "foveate": "0.1.0",
        "created": "2026-11-29T12:00:00+00:00",
        "interrupted": False,
        "planned": len(points),
        "bundle": "contrast",
        "digest": "0" * 64,
        "device": "cpu",
        "backend": "onnxruntime",
        "versions": {},
        "scenario": "single-stream",
        "turns": 10,
        "confidence": 0.99,
        "datasets": {
            name: SweptDataset(images=4, objects=9, timed=()) for name in points[0].datasets
        },
        "machine": Machine(
            system="",
            python="",
            processor=Processor(**(processor | {"name": "a processor", "cores": 2})),
            gpu=None,
            fit=True,
            reasons=(),
        ),
        "points": tuple(points),
    }
    return SweepRecord(**(values | changes))
