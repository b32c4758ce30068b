# SPDX-License-Identifier: Apache-2.0
"""The ranges of a manifest's numbers hold to the last value inside and refuse the first outside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from foveate.bundle import Bundle, FileSpec
from foveate.bundle.schema import RejectedValueError

MANIFEST = Bundle.open("mini").manifest
INSIDE: list[tuple[str, dict[str, Any]]] = [
    ("preprocessing", {"mean": (-1e4, 0.0, 1e4)}),
    ("preprocessing", {"std": (1e-4, 1.0, 1e4)}),
    ("preprocessing", {"fill": 0}),
    ("preprocessing", {"fill": 255}),
    ("pyramid", {"scales": (4.0,) * 64}),
    ("pyramid", {"max_side": 16}),
    ("windows", {"stride": 1, "size": 1024, "padding": 1024}),
    ("windows", {"stride": 16, "size": 160, "padding": 0}),
    ("windows", {"stride": 1, "size": 1, "padding": 0}),
    ("select", {"top_k": 1}),
    ("select", {"window_nms_iou": 1.0}),
    ("mask", {"size": 1}),
    ("mask", {"size": 4096}),
    ("mask", {"threshold": -1e4}),
    ("mask", {"threshold": 1e4}),
    ("features", {"short_side": 1, "long_side": 1}),
    ("features", {"long_side": 4096}),
    ("classify", {"class_nms_iou": 1.0}),
    ("classify", {"max_detections": 1}),
    ("select", {"proposal_nms_iou": 1.0}),
    ("classify", {"delta_mean": (1e4, -1e4, 0.0, 0.0)}),
]
OUTSIDE: list[tuple[str, dict[str, Any], str]] = [
    ("preprocessing", {"mean": (0.0, 0.0, 10001.0)}, "mean must lie in -1e4..1e4"),
    ("preprocessing", {"std": (1.0, 0.00009, 1.0)}, "std must lie in 1e-4..1e4"),
    ("preprocessing", {"std": (1.0, 10001.0, 1.0)}, "std must lie in 1e-4..1e4"),
    ("preprocessing", {"fill": -1}, "fill must lie in 0..255"),
    ("preprocessing", {"fill": 256}, "fill must lie in 0..255"),
    ("pyramid", {"scales": ()}, "scales must not be empty"),
    ("pyramid", {"scales": (1.0,) * 65}, "scales must be at most 64"),
    ("pyramid", {"scales": (1.0, 0.0)}, "scales must lie in"),
    ("pyramid", {"scales": (4.001,)}, "scales must lie in"),
    ("pyramid", {"max_side": 15}, "max_side must be at least 16"),
    ("windows", {"stride": 0}, "stride must be at least 1"),
    ("windows", {"stride": 16, "size": 0, "padding": 0}, "size must be k"),
    ("windows", {"stride": 16, "size": 170}, "size must be k"),
    ("windows", {"stride": 1, "size": 1025, "padding": 1025}, "size must be at most 1024"),
    ("windows", {"stride": 16, "size": 160, "padding": -1}, "padding must lie in 0..size"),
    ("windows", {"stride": 16, "size": 160, "padding": 161}, "padding must lie in 0..size"),
    ("select", {"top_k": 0}, "top_k must be at least 1"),
    ("select", {"window_nms_iou": 0.0}, "window_nms_iou must lie in"),
    ("select", {"window_nms_iou": 1.01}, "window_nms_iou must lie in"),
    ("mask", {"size": 0}, "size must lie in 1..4096"),
    ("mask", {"size": 4097}, "size must lie in 1..4096"),
    ("mask", {"threshold": 10001.0}, "threshold must lie in"),
    ("features", {"short_side": 0}, "need 1 <= short_side <= long_side"),
    ("features", {"short_side": 20, "long_side": 19}, "need 1 <= short_side <= long_side"),
    ("features", {"long_side": 4097}, "long_side must be at most 4096"),
    ("classify", {"class_nms_iou": 0.0}, "^class_nms_iou must lie in"),
    ("classify", {"class_nms_iou": 1.01}, "^class_nms_iou must lie in"),
    ("classify", {"max_detections": 0}, "max_detections must be at least 1"),
    ("select", {"proposal_nms_iou": 0.0}, "proposal_nms_iou must lie in"),
    ("select", {"proposal_nms_iou": 1.01}, "proposal_nms_iou must lie in"),
    ("classify", {"delta_std": (1.0, 10001.0, 1.0, 1.0)}, "delta_std and calibration"),
]


@pytest.mark.parametrize(("section", "numbers"), INSIDE)
def test_a_number_at_the_edge_of_its_range_is_accepted(
    section: str, numbers: dict[str, Any]
) -> None:
    changed = replace(getattr(MANIFEST, section), **numbers)
    assert {name: getattr(changed, name) for name in numbers} == numbers


@pytest.mark.parametrize(("section", "numbers", "text"), OUTSIDE)
def test_a_number_beyond_its_range_is_refused(
    section: str, numbers: dict[str, Any], text: str
) -> None:
    with pytest.raises(RejectedValueError, match=text):
        replace(getattr(MANIFEST, section), **numbers)


@pytest.mark.parametrize("size", [-1, 1 << 63])
def test_a_file_of_an_impossible_size_is_refused(size: int) -> None:
    assert FileSpec(sha256="a" * 64, size=0).size == 0
    with pytest.raises(RejectedValueError, match="size must lie in"):
        FileSpec(sha256="a" * 64, size=size)
