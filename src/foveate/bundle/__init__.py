# SPDX-License-Identifier: Apache-2.0
"""Bundles: a directory with a manifest and one ONNX file per stage, checked before it is used."""

from __future__ import annotations

from foveate.bundle.bundle import (
    MANIFEST_NAME,
    Bundle,
    check_target,
    is_shipped_name,
    read_bundle,
    shipped_bundles,
    write_bundle,
)
from foveate.bundle.manifest import (
    REQUIRED_STAGES,
    SCHEMA,
    STAGES,
    ClassifySpec,
    FeaturesSpec,
    FileSpec,
    Manifest,
    MaskSpec,
    NetworkSpec,
    PluginSpec,
    PreprocessingSpec,
    PyramidSpec,
    SelectSpec,
    SourceSpec,
    StageSpec,
    TensorSpec,
    WindowSpec,
)

__all__ = [
    "MANIFEST_NAME",
    "REQUIRED_STAGES",
    "SCHEMA",
    "STAGES",
    "Bundle",
    "ClassifySpec",
    "FeaturesSpec",
    "FileSpec",
    "Manifest",
    "MaskSpec",
    "NetworkSpec",
    "PluginSpec",
    "PreprocessingSpec",
    "PyramidSpec",
    "SelectSpec",
    "SourceSpec",
    "StageSpec",
    "TensorSpec",
    "WindowSpec",
    "check_target",
    "is_shipped_name",
    "read_bundle",
    "shipped_bundles",
    "write_bundle",
]
