# SPDX-License-Identifier: Apache-2.0
"""Presets in the manifest of a bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import write_contrast_bundle
from tests.fuzz.wrong_values import REMOVED, with_value

from foveate.bundle import (
    Bundle,
    Manifest,
    PresetMeasurement,
    PresetSpec,
    RelativeTime,
    write_presets,
)
from foveate.errors import BundleError

TIME = RelativeTime(value=0.4, low=0.38, high=0.42)
PRESET = PresetSpec(
    relative_time=TIME,
    measured={
        "photographs": PresetMeasurement(
            images=3, objects=9, relative_time=TIME, figures={"mask AR@100": 0.25}
        )
    },
    scales=(0.5, 1.0),
    top_k=10,
    conditions={"processor": "a processor"},
)


def test_presets_are_written_and_the_networks_stay(tmp_path: Path) -> None:
    root = write_contrast_bundle(tmp_path / "bundle")
    before = {file.name: file.stat() for file in root.glob("*.onnx")}
    written = write_presets(Bundle.open(root), {"fast": PRESET})
    assert written.manifest.presets == {"fast": PRESET}
    assert Bundle.open(root).manifest == written.manifest
    assert {file.name: file.stat() for file in root.glob("*.onnx")} == before


def test_presets_that_cannot_be_read_again_are_not_written(tmp_path: Path) -> None:
    bundle = Bundle.open(write_contrast_bundle(tmp_path / "bundle"))
    before = (bundle.root / "manifest.json").read_bytes()
    with pytest.raises(
        BundleError, match=r"select\.top_k times mask\.size squared must be at most"
    ):
        write_presets(bundle, {"most": replace(PRESET, top_k=1 << 30)})
    assert (bundle.root / "manifest.json").read_bytes() == before


def test_presets_are_not_written_into_the_package() -> None:
    bundle = Bundle.open("mini")
    with pytest.raises(
        BundleError,
        match="in the package foveate, which must not change: .*: copy it: cp -rL .*mini",
    ):
        write_presets(bundle, dict(bundle.manifest.presets))


def test_a_preset_is_its_options() -> None:
    assert PRESET.options == {"scales": (0.5, 1.0), "top_k": 10}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("scales",), [], "presets.fast: scales must not be empty"),
        (("scales",), [9.0], r"presets.fast: scales must lie in \(0, 4\]"),
        (("max_side",), 3, "presets.fast: max_side must be at least 16"),
        (("top_k",), 0, "presets.fast: top_k must be at least 1"),
        (("top_k",), 1 << 30, "select.top_k times mask.size squared must be at most"),
        (("threads",), 2, "unknown key 'presets.fast.threads'"),
        (("relative_time", "low"), -1.0, "presets.fast.relative_time: need 0 < low <= high"),
        (("relative_time",), REMOVED, "the key 'presets.fast.relative_time' is missing"),
        (("measured", "photographs", "images"), 0, "need 1 <= images and 0 <= objects"),
    ],
)
def test_wrong_values_of_presets_are_refused(
    contrast_bundle: Path, path: Any, value: object, message: str
) -> None:
    document = json.loads((contrast_bundle / "manifest.json").read_text())
    spelled = json.loads(json.dumps(PRESET, default=vars))
    changed = with_value(
        {**document, "presets": {"fast": spelled}}, ("presets", "fast", *path), value
    )
    with pytest.raises(BundleError, match=message):
        Manifest.from_json(json.dumps(changed))
