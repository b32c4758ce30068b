# SPDX-License-Identifier: Apache-2.0
"""The ranges of a manifest's numbers hold to the last value inside and refuse the first outside."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from foveate.bundle import Bundle, FileSpec, Manifest, TensorSpec, WindowSpec
from foveate.bundle.schema import RejectedValueError
from foveate.errors import BundleError

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
    ("classify", {"calibration": (1e4, -1e4, 0.0)}),
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
    ("classify", {"calibration": (0.0, 10001.0, 0.0)}, "delta_std and calibration"),
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


@pytest.mark.parametrize("digest", ["a" * 63, "A" * 64, "g" * 64])
def test_a_digest_that_is_not_lower_case_hexadecimal_is_refused(digest: str) -> None:
    with pytest.raises(RejectedValueError, match="sha256 is malformed"):
        FileSpec(sha256=digest, size=0)


def test_a_tensor_has_at_most_eight_dimensions() -> None:
    assert len(TensorSpec(name="x", dtype="float32", shape=(1,) * 8).shape) == 8
    with pytest.raises(RejectedValueError, match="shape must have at most 8 dimensions"):
        TensorSpec(name="x", dtype="float32", shape=(1,) * 9)


def test_a_canvas_has_the_border_on_both_sides_and_holds_a_window() -> None:
    windows = WindowSpec(size=32, stride=8, padding=12)
    assert [windows.canvas_side(side) for side in (1, 9, 50, 56, 56.5)] == [32, 40, 80, 80, 88]


PRESET = MANIFEST.presets["fast"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "n" * 1001}, "name must be at most 1000 characters"),
        ({"presets": {str(k): PRESET for k in range(65)}}, "presets must be at most 64"),
        ({"presets": {"": PRESET}}, "with names of 1 to 100 characters"),
        ({"presets": {"n" * 101: PRESET}}, "with names of 1 to 100 characters"),
        ({"class_names": ("n" * 1001,)}, "class_names must have 1 to 1000 characters"),
        ({"class_names": ("cat", "cup", "cat")}, "class_names repeat"),
        ({"class_names": ()}, "class_names must not be empty"),
        ({"classify": None}, "the section 'classify' is missing"),
        ({"features": None}, "the section 'features' is missing"),
    ],
)
def test_a_manifest_beyond_its_limits_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(RejectedValueError, match=text):
        replace(MANIFEST, **changes)


def test_a_manifest_at_its_limits_is_accepted() -> None:
    presets = {f"{k:0100d}": PRESET for k in range(64)}
    found = replace(MANIFEST, name="n" * 1000, presets=presets, class_names=("n" * 1000,))
    assert len(found.presets) == 64


@pytest.mark.parametrize(("stage", "other"), [("features", "classify"), ("classify", "features")])
def test_the_stages_of_a_classifier_need_each_other(stage: str, other: str) -> None:
    stages = {name: spec for name, spec in MANIFEST.stages.items() if name != other}
    with pytest.raises(RejectedValueError, match=f"the stage '{stage}' needs the stage '{other}'"):
        replace(MANIFEST, stages=stages)


@pytest.mark.parametrize("schema", [0, True, 1.0, "1"])
def test_a_schema_that_is_no_positive_number_is_refused(schema: object) -> None:
    text = json.dumps({**json.loads(MANIFEST.to_json()), "schema": schema})
    with pytest.raises(BundleError, match="no valid schema number"):
        Manifest.from_json(text)


def small_masks(top_k: int) -> Manifest:
    """Return the manifest for masks of 16 pixels and 127 classes."""
    return replace(
        MANIFEST,
        select=replace(MANIFEST.select, top_k=top_k),
        mask=replace(MANIFEST.mask, size=16),
        class_names=tuple(map(str, range(127))),
        presets={},
    )


def test_the_memory_for_class_scores_is_bounded() -> None:
    at_the_limit = small_masks((1 << 25) // 128)
    assert Manifest.from_json(at_the_limit.to_json()) == at_the_limit
    with pytest.raises(BundleError, match="number of classes must be at most 33554432"):
        Manifest.from_json(small_masks((1 << 25) // 128 + 1).to_json())


def test_the_memory_for_masks_is_bounded_and_presets_count() -> None:
    masks = replace(MANIFEST.mask, size=1024)
    at_the_limit = replace(MANIFEST, mask=masks, presets={"fast": replace(PRESET, top_k=256)})
    assert Manifest.from_json(at_the_limit.to_json()) == at_the_limit
    beyond = replace(at_the_limit, presets={"fast": replace(PRESET, top_k=257)})
    with pytest.raises(BundleError, match="mask.size squared must be at most 268435456"):
        Manifest.from_json(beyond.to_json())


def test_what_a_manifest_leaves_out_changes_nothing() -> None:
    document = json.loads(MANIFEST.to_json())
    del document["classify"]["calibration"], document["select"]["proposal_nms_iou"]
    document["source"]["precision"] = {"propose": "fp16"}
    found = Manifest.from_json(json.dumps(document))
    assert found.classify is not None
    assert found.classify.calibration == (0.0, 1.0, 0.0)  # the probability as it is
    assert found.select.proposal_nms_iou == 1.0  # which suppresses none
    assert [found.precision_of(stage) for stage in ("propose", "refine")] == ["fp16", "fp32"]


def test_class_names_are_readable_in_the_file() -> None:
    assert '"Bär"' in replace(MANIFEST, class_names=("Bär",)).to_json()
