# SPDX-License-Identifier: Apache-2.0
"""Compilation of the stages of a bundle to engines of TensorRT or TensorRT for RTX."""

from foveate.export.engines.cache import EngineCache
from foveate.export.engines.compiler import (
    BuildRequest,
    BuildResult,
    build_requests,
    compile_bundle,
)
from foveate.export.engines.options import CompileOptions

__all__ = [
    "BuildRequest",
    "BuildResult",
    "CompileOptions",
    "EngineCache",
    "build_requests",
    "compile_bundle",
]
