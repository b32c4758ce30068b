# SPDX-License-Identifier: Apache-2.0
"""`foveate export --standard-ops-only --precision`: functions are inlined after the conversion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from tests.samples.weights import rounded

from foveate.export.bundle_export import ExportOptions, export_bundle
from foveate.export.checks.bundle_report import check_report, inspect_bundle
from foveate.export.execution.sessions import session_function
from foveate.export.execution.stages import cascade_stages
from foveate.export.precision import PrecisionOptions, convert
from foveate.export.precision.calibration import stage_calls
from foveate.export.precision.options import PHOTOGRAPHS
from foveate.export.to_onnx.onnx_graph import export_stage
from foveate.models.checkpoint import CascadeInfo, build_cascade

IMAGES = (PHOTOGRAPHS / "cat.jpg",)


def test_a_bundle_in_float16_is_the_same_without_our_functions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cascade = rounded(build_cascade(CascadeInfo(proposals="sharpmask-mini")))
    precision = PrecisionOptions(stages={"refine": "fp16"}, images=IMAGES)
    options = ExportOptions(
        name="sharpmask",
        scales=(0.5, 1.0),
        max_side=96,
        top_k=8,
        precision=precision,
        standard_ops_only=True,
    )
    inlined = export_bundle(cascade, tmp_path / "inlined", options)
    assert not inlined.manifest.plugins
    check_report(inspect_bundle(inlined))

    # The other stage has none of our functions, so its file is that of a plain bundle.
    propose, refine = cascade_stages(cascade)
    plain = {
        propose.name: onnx.load(inlined.stage_path(propose.name)),
        refine.name: export_stage(refine),
    }
    assert plain[refine.name].functions
    converted = convert(inlined.manifest, plain, precision)
    assert converted.precision == dict(inlined.manifest.source.precision)
    assert converted.precision["refine"] == "fp16"
    calls = stage_calls(inlined.manifest, plain, IMAGES)
    for stage, model in {**plain, **converted.models}.items():
        assert not onnx.load(inlined.stage_path(stage)).functions
        expected = session_function(model)(calls[stage][-1])
        found = session_function(inlined.stage_path(stage))(calls[stage][-1])
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=f"{stage}.{name}")
