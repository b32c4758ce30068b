# SPDX-License-Identifier: Apache-2.0
"""Foveate finds, outlines and names every object in an image.

::

    pipeline = foveate.load("mini")
    detections = pipeline("photo.jpg")
"""

from __future__ import annotations

import os
from importlib import import_module

from foveate.errors import (
    BackendError,
    BundleError,
    DataError,
    FoveateError,
    InputError,
    MissingExtraError,
    ModelError,
    OptionError,
    OutOfMemoryError,
)

# Not imported from typing, which takes most of the time in which Ctrl-C would show a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from foveate.bundle import Bundle
    from foveate.results.detections import Detections, Findings, Proposals
    from foveate.runtime.device_results import DeviceDetections
    from foveate.runtime.loading import load
    from foveate.runtime.options import PipelineOptions
    from foveate.runtime.pipeline import Pipeline

__version__ = "0.1.0"

# From 1.29 on, the official wheels of ONNX Runtime for Linux send telemetry, and write an identifier
# of the machine into the user's cache, unless this is set before the first import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "BackendError",
    "Bundle",
    "BundleError",
    "DataError",
    "Detections",
    "DeviceDetections",
    "Findings",
    "FoveateError",
    "InputError",
    "MissingExtraError",
    "ModelError",
    "OptionError",
    "OutOfMemoryError",
    "Pipeline",
    "PipelineOptions",
    "Proposals",
    "load",
]

# Imported when they are first used, so that a command that needs none of them starts fast.
_HOMES = {
    "load": "foveate.runtime.loading",
    "Pipeline": "foveate.runtime.pipeline",
    "PipelineOptions": "foveate.runtime.options",
    "Bundle": "foveate.bundle",
    "Detections": "foveate.results.detections",
    "DeviceDetections": "foveate.runtime.device_results",
    "Findings": "foveate.results.detections",
    "Proposals": "foveate.results.detections",
}


def __getattr__(name: str) -> object:  # of the names that users import, each on its first use
    if name == "models":  # needs PyTorch, so it is imported on first access
        return import_module("foveate.models")
    if name not in _HOMES:
        raise AttributeError(f"module 'foveate' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
