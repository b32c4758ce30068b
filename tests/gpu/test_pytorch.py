# SPDX-License-Identifier: Apache-2.0
"""The pipeline with PyTorch on a GPU, against ONNX Runtime on the CPU."""

from __future__ import annotations

import time

import pytest

from foveate.bundle import read_bundle
from foveate.errors import BackendError
from foveate.export.execution.torch_cuda import open_torch_engines
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.runtime import Pipeline, load
from foveate.runtime.devices.cuda import CudaDevice
from foveate.selftest.checks import Check
from foveate.selftest.images import compare_detections, sample_image
from foveate.selftest.supervision import StepResult

pytestmark = pytest.mark.gpu

# Columns by which the sample image is shifted.
SHIFTS = (0, 40, 80, 120, 160)


def test_five_images_give_the_detections_of_the_cpu(report: list[StepResult]) -> None:
    device = CudaDevice()
    bundle = read_bundle("mini", lambda opened: opened)
    try:
        engines = open_torch_engines(cascade_from_bundle(bundle), bundle, device)
    except BackendError as error:
        pytest.skip(f"needs PyTorch for CUDA: {error.what}")
    checks = []
    with Pipeline(bundle, engines, device=device) as pipeline, load(device="cpu") as cpu:
        for shift in SHIFTS:
            image, started = sample_image(shift), time.monotonic()
            found = pipeline(image)
            seconds = time.monotonic() - started
            pixels, score = compare_detections(found, cpu(image))
            facts = {"score_difference": score, "detections": len(found)}
            name = f"image shifted by {shift} px"
            checks.append(
                Check(name=name, status="passed", seconds=seconds, difference=pixels, facts=facts)
            )
    report.append(StepResult(name="pytorch", status="passed", checks=tuple(checks)))
