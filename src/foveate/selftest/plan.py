# SPDX-License-Identifier: Apache-2.0
"""All steps of the self-test, in their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from foveate.selftest.checks import Checks
from foveate.selftest.engines import engine_checks
from foveate.selftest.images import image_checks, stream_checks
from foveate.selftest.machine import driver_checks, kernel_checks, sanitizer_checks
from foveate.selftest.operations import capture_checks, operation_checks, time_checks


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of the self-test.

    Args:
        checks: Function that returns its checks for a bundle.
        limit_s: Seconds after which its process is ended.
    """

    checks: Callable[[str], Checks]
    limit_s: float


STEPS = {
    "driver": Step(checks=driver_checks, limit_s=60),
    "kernels": Step(checks=kernel_checks, limit_s=180),
    "operations": Step(checks=operation_checks, limit_s=120),
    "captures": Step(checks=capture_checks, limit_s=120),
    # ONNX Runtime may compile each stage with TensorRT.
    "engines": Step(checks=engine_checks, limit_s=900),
    "image": Step(checks=image_checks, limit_s=120),
    "stream": Step(checks=stream_checks, limit_s=180),
    "times": Step(checks=time_checks, limit_s=60),
    "sanitizer": Step(checks=sanitizer_checks, limit_s=300),
}
