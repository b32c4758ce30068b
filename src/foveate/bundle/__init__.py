# SPDX-License-Identifier: Apache-2.0
"""Bundles: a directory with a manifest and one ONNX file per stage, checked when it is opened."""

from foveate.bundle.bundle import Bundle, is_shipped_name, read_bundle, shipped_bundles
from foveate.bundle.files import is_packaged, is_snapshot
from foveate.bundle.manifest import (
    SCHEMA,
    STAGES,
    ClassifySpec,
    FeaturesSpec,
    FileSpec,
    Manifest,
    MaskSpec,
    PluginSpec,
    PreprocessingSpec,
    SelectSpec,
    StageSpec,
    TensorSpec,
    WindowSpec,
)
from foveate.bundle.presets import PresetMeasurement, PresetSpec, RelativeTime
from foveate.bundle.pyramid import PyramidSpec
from foveate.bundle.source import NetworkSpec, SourceSpec
from foveate.bundle.writer import check_target, write_bundle, write_presets

__all__ = [
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
    "PresetMeasurement",
    "PresetSpec",
    "PyramidSpec",
    "RelativeTime",
    "SelectSpec",
    "SourceSpec",
    "StageSpec",
    "TensorSpec",
    "WindowSpec",
    "check_target",
    "is_packaged",
    "is_shipped_name",
    "is_snapshot",
    "read_bundle",
    "shipped_bundles",
    "write_bundle",
    "write_presets",
]
