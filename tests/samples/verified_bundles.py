# SPDX-License-Identifier: Apache-2.0
"""Copies of the shipped bundle for tests: for small images, and with faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from foveate.bundle import Bundle, FeaturesSpec, Manifest, PyramidSpec, SelectSpec, write_bundle

Change = Callable[[onnx.ModelProto], None]


def small_bundle(directory: Path) -> Bundle:
    """Write the shipped networks with two levels and few windows, so that an image takes a moment."""
    mini = Bundle.open("mini")
    manifest = replace(
        mini.manifest,
        pyramid=PyramidSpec(scales=(0.5, 1.0), max_side=96),
        select=SelectSpec(top_k=8, window_nms_iou=0.8),
        features=FeaturesSpec(short_side=64, long_side=96),
        # With that of `mini`, levels this small have hardly a window.
        windows=replace(mini.manifest.windows, padding=80),
    )
    return write_bundle(directory, manifest, stage_files(mini))


def with_change(bundle: Bundle, directory: Path, stage: str, change: Change) -> Bundle:
    """Copy a bundle with a change of one stage's model."""
    model = onnx.load(bundle.stage_path(stage))
    change(model)
    files = stage_files(bundle)
    files[bundle.manifest.stages[stage].file] = model.SerializeToString()
    return write_bundle(directory, bundle.manifest, files)


def with_manifest(bundle: Bundle, directory: Path, **changes: Any) -> Bundle:
    """Copy a bundle with other entries of its manifest."""
    manifest: Manifest = replace(bundle.manifest, **changes)
    return write_bundle(directory, manifest, stage_files(bundle))


def stage_files(bundle: Bundle) -> dict[str, bytes]:
    stages = bundle.manifest.stages.values()
    return {stage.file: bundle.path(stage.file).read_bytes() for stage in stages}


def stage_models(bundle: Bundle) -> dict[str, onnx.ModelProto]:
    return {name: onnx.load(bundle.stage_path(name)) for name in bundle.manifest.stages}


def add_to_weight(name: str, amount: float) -> Change:
    """Change one number of a parameter, as a flipped bit or a faulty pass would."""

    def change(model: onnx.ModelProto) -> None:
        (weight,) = [one for one in model.graph.initializer if one.name == name]
        values = numpy_helper.to_array(weight).copy()
        values.flat[0] += np.asarray(amount, values.dtype)
        weight.CopyFrom(numpy_helper.from_array(values, name))

    return change
