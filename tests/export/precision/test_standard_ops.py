# SPDX-License-Identifier: Apache-2.0
"""`foveate export --standard-ops-only --precision`: functions are inlined after the conversion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from tests.samples.verified_bundles import stage_models

from foveate.bundle import Bundle
from foveate.export.bundle_export import ExportOptions, export_bundle
from foveate.export.checks.bundle_report import check_report, inspect_bundle
from foveate.export.execution.sessions import session_function
from foveate.export.precision import PrecisionOptions
from foveate.export.precision.calibration import stage_calls
from foveate.export.precision.options import PHOTOGRAPHS
from foveate.models.checkpoint import CascadeInfo, build_cascade

IMAGES = (PHOTOGRAPHS / "cat.jpg",)


def test_a_bundle_in_float16_is_the_same_without_our_functions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cascade = build_cascade(CascadeInfo(proposals="sharpmask-mini"))
    options = ExportOptions(
        name="sharpmask",
        scales=(0.5, 1.0),
        max_side=96,
        top_k=8,
        precision=PrecisionOptions(stages={"refine": "fp16"}, images=IMAGES),
    )
    plain = export_bundle(cascade, tmp_path / "plain", options)
    inlined = export_bundle(cascade, tmp_path / "inlined", replace(options, standard_ops_only=True))
    assert plain.manifest.plugins
    assert not inlined.manifest.plugins
    assert plain.manifest.source == inlined.manifest.source
    assert inlined.manifest.precision_of("refine") == "fp16"
    check_report(inspect_bundle(inlined))
    for stage, calls in stage_calls(plain.manifest, stage_models(plain), IMAGES).items():
        assert not onnx.load(inlined.stage_path(stage)).functions
        expected, found = (run(bundle, stage, calls[-1]) for bundle in (plain, inlined))
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=f"{stage}.{name}")


def run(bundle: Bundle, stage: str, call: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(session_function(bundle.stage_path(stage))(call))
