# SPDX-License-Identifier: Apache-2.0
"""The stages of a bundle to engines of TensorRT or TensorRT for RTX, and the cache of engines."""

from __future__ import annotations

from foveate.export.engines.cache import EngineCache
from foveate.export.engines.compiler import Outcome, Wanted, compile_bundle, wanted_engines
from foveate.export.engines.options import CompileOptions

__all__ = ["CompileOptions", "EngineCache", "Outcome", "Wanted", "compile_bundle", "wanted_engines"]
