# SPDX-License-Identifier: Apache-2.0
"""The part of a build that needs a GPU: the plan is loaded, to list its layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.samples.compiling import key_with
from tests.samples.plans import write_plans
from tests.samples.verified_bundles import small_bundle
from tests.simulated_gpu.tensorrt import Runtime, SimulatedTensorRT

from foveate.errors import BackendError
from foveate.export.engines import CompileOptions
from foveate.export.engines.process import BuildJob
from foveate.export.engines.worker import _Build
from foveate.runtime.devices.cuda import CudaDevice

pytest.importorskip("cuda.core", reason="needs the package cuda-core")


def build_of(folder: Path, **options: Any) -> tuple[_Build, bytes]:
    """Return a build of the stage refine at its end, and its plan."""
    bundle = small_bundle(folder / "small")
    chosen = CompileOptions(target="tensorrt", **options).builder_options()
    (plan,) = write_plans(bundle, stages=("refine",), options=chosen)
    job = BuildJob(
        name="refine",
        key=key_with(target="tensorrt", archs=("sm_75",), options=chosen, profiles=()),
        onnx=str(bundle.stage_path("refine")),
        plan=str(plan),
        timing_cache=None,
        plugins=None,
        report=True,
    )
    events: Any = None
    return _Build(job, events), plan.read_bytes()


@pytest.mark.parametrize("version_compatible", [False, True])
def test_the_layers_of_a_plan_are_listed(
    device: CudaDevice, tmp_path: Path, *, version_compatible: bool
) -> None:
    build, plan = build_of(tmp_path, version_compatible=version_compatible)
    assert len(build._report(plan)["Layers"]) > 1


def test_an_internal_error_of_tensorrt_is_quoted(
    device: CudaDevice, trt: SimulatedTensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, plan = build_of(tmp_path)

    def fail(*_: object) -> None:
        build.logger.log(trt.ILogger.INTERNAL_ERROR, "CUDA initialization failure with error: 35")

    monkeypatch.setattr(Runtime, "deserialize_cuda_engine", fail)
    with pytest.raises(BackendError) as caught:
        build._report(plan)
    assert caught.value.what == (
        "tensorrt cannot build the stage 'refine' (CUDA initialization failure with error: 35)"
    )
