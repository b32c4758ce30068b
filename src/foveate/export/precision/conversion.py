# SPDX-License-Identifier: Apache-2.0
"""Conversion of float32 stages to other precisions, with a record of the measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import shape_inference

from foveate.arrays import Array
from foveate.bundle import Manifest
from foveate.bundle.source import LEAST_SHARE
from foveate.errors import InputError, ModelError, OptionError
from foveate.export.execution.divergence import first_divergent_layer
from foveate.export.execution.fp16_rounding import with_fp16_rounding
from foveate.export.execution.graph import layers
from foveate.export.execution.sessions import session_function
from foveate.export.precision.calibration import Call, observe, small_calls, stage_calls
from foveate.export.precision.float16 import LARGEST, float_values, to_float16
from foveate.export.precision.layers import find_layers, fold_affine
from foveate.export.precision.options import PrecisionOptions
from foveate.export.precision.quantize import Quantizer, correct_biases, rounded_values
from foveate.progress import Progress, no_progress

_TRIED_CALLS = 8
_MAX_FLOAT16_ERROR = 1e-3
"""Largest ``quantization_error`` of a float16 stage, on the calls that layers are tried on."""


@dataclass(frozen=True, kw_only=True)
class LayerChoice:
    """The layers of a stage that are INT8, the others, and the quantization errors of the stage."""

    layers: tuple[str, ...]  # in the order of the stage
    left_out: tuple[str, ...]  # the worst first
    quantization_error: float
    alone: dict[str, float]  # with a single layer in INT8


def choose_layers(
    quantizer: Quantizer,
    candidates: Sequence[str],
    calls: Sequence[Call],
    most: float,
    progress: Progress = no_progress,
) -> LayerChoice:
    """Choose by measurement the layers that can be INT8, up to an error ``most`` of the stage.

    The error is measured for each layer alone, then for all of them together; while that is too
    large, the layer with the largest error alone is left out.
    """
    expected = _outputs(quantizer.model, calls)

    def measured(names: Sequence[str]) -> float:
        return quantization_error(expected, _outputs(quantizer.quantized(names), calls))

    alone = {}
    for number, name in enumerate(candidates):
        alone[name] = measured([name])
        progress("Layers", number + 1, len(candidates))
    kept, left_out = list(candidates), list[str]()
    found = measured(kept)
    while kept and not found <= most:
        worst = max(kept, key=lambda name: alone[name])
        kept.remove(worst)
        left_out.append(worst)
        found = measured(kept) if kept else 0.0
    return LayerChoice(
        layers=tuple(kept), left_out=tuple(left_out), quantization_error=found, alone=alone
    )


Outputs = Sequence[Mapping[str, Array]]
"""Outputs of a stage by name, one mapping per call."""


def _outputs(model: onnx.ModelProto, calls: Sequence[Call]) -> Outputs:
    return list(map(session_function(model), calls))


def quantization_error(expected: Outputs, found: Outputs) -> float:
    """Return the mean squared error over the variance of the exact values, of the worst output."""
    worst = 0.0
    for name in expected[0]:
        pairs = [
            (one[name].astype(np.float64), other[name].astype(np.float64))
            for one, other in zip(expected, found, strict=True)
        ]
        error = sum(float(((one - other) ** 2).sum()) for one, other in pairs)
        number = sum(one.size for one, _ in pairs)
        mean = sum(float(one.sum()) for one, _ in pairs) / max(1, number)
        power = sum(float(((one - mean) ** 2).sum()) for one, _ in pairs)
        if not np.isfinite(error):
            return float("inf")
        if error:
            worst = max(worst, error / power if power else float("inf"))
    return worst


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Converted stages.

    Args:
        models: Model of each network, by stage; other stages are not converted.
        precision: Precision of each stage. A stage in which too few layers may be INT8 stays
            float32, unless INT8 was requested for it by name.
        record: Measurements for the provenance of the manifest.
    """

    models: dict[str, onnx.ModelProto] = field(default_factory=dict)
    precision: dict[str, str] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)


def convert(
    manifest: Manifest,
    models: Mapping[str, onnx.ModelProto],
    options: PrecisionOptions,
    progress: Progress = no_progress,
) -> Converted:
    """Convert the float32 models of the stages of a bundle.

    Raises:
        OptionError: Too few layers of a named stage may be INT8.
        ModelError: A stage is not accurate enough in its precision.
        InputError: An image cannot be read, or no image reaches a stage to be converted.
    """
    stages = manifest.networks
    calls = stage_calls(manifest, models, options.images, progress)
    for name in stages:
        if options.of(name) != "fp32" and not calls[name]:
            what = f"the calibration images show no object, so that the stage {name!r} never runs"
            raise InputError(what, remedy="pass --calibration with photographs of objects")
    converted = Converted(
        record={
            "images": [path.name for path in options.images],
            "method": options.method,
            "max_quantization_error": options.max_quantization_error,
            "stages": {},
        }
    )
    for name in stages:
        stage = _Stage(name, models[name], calls[name], options, progress)
        convertors = {"fp16": stage.to_fp16, "int8": stage.to_int8}
        convertor = convertors.get(options.of(name))
        model, precision, record = convertor() if convertor else (models[name], "fp32", {})
        converted.models[name], converted.precision[name] = model, precision
        if record:
            converted.record["stages"][name] = record
    return converted


Result = tuple[onnx.ModelProto, str, dict[str, Any]]


@dataclass(frozen=True)
class _Stage:
    name: str
    model: onnx.ModelProto
    calls: Sequence[Call]
    options: PrecisionOptions
    progress: Progress

    def to_fp16(self) -> Result:
        observed = observe(self.model, self.calls, float_values(self.model))
        large = [name for name, one in observed.items() if one.histogram.largest > LARGEST]
        found = to_float16(self.model, large)
        emulated = with_fp16_rounding(shape_inference.infer_shapes(found))
        # A few small calls suffice to measure the error.
        calls = small_calls(self.calls, _TRIED_CALLS)
        lost = quantization_error(_outputs(self.model, calls), _outputs(emulated, calls))
        if not lost <= _MAX_FLOAT16_ERROR:
            models, images = (self.model, emulated), "the calibration images"
            divergence = first_divergent_layer(
                models, self.name, calls[0], _MAX_FLOAT16_ERROR, images
            )
            raise ModelError(
                f"the stage {self.name!r} loses too much in float16: {divergence}",
                remedy=f"leave it in float32: --precision {self.name}=fp32,...",
            )
        self.progress(f"{self.name} in fp16", 1, 1)
        return found, "fp16", {"quantization_error": lost, "float32_because_large": large}

    def to_int8(self) -> Result:
        model = fold_affine(self.model)
        found = list(find_layers(ir.serde.deserialize_model(model).graph))
        never = {layer.name: layer.refused for layer in found if layer.refused}
        candidates = [layer.name for layer in found if not layer.refused]
        macs = self._macs(model)
        if not self._enough(candidates, macs):
            return self._refuse("may be INT8", candidates, macs)
        observed = observe(model, self.calls, rounded_values(model))
        quantizer = Quantizer(model=model, observed=observed, method=self.options.method)
        tried = small_calls(self.calls, _TRIED_CALLS)
        choice = choose_layers(
            quantizer, candidates, tried, self.options.max_quantization_error, self._named("Layers")
        )
        if not self._enough(choice.layers, macs):
            return self._refuse("are INT8 within the quantization error", choice.layers, macs)
        quantized = quantizer.quantized(choice.layers)
        corrected = correct_biases(model, quantized, tried, self._named("Biases"))
        record = {
            "quantization_error": quantization_error(
                _outputs(model, tried), _outputs(corrected, tried)
            ),
            "left_out": list(choice.left_out),
            "quantization_error_alone": choice.alone,
            "never": never,
        }
        return corrected, "int8", record

    def _named(self, task: str) -> Progress:
        """Return a progress callback that adds the name of this stage to the task."""
        return lambda _task, done, total, _figures=None: self.progress(
            f"{task} of {self.name}", done, total
        )

    def _macs(self, model: onnx.ModelProto) -> Mapping[str, int]:
        shapes = {name: array.shape for name, array in self.calls[0].items()}
        return {one.name: one.macs or 0 for one in layers(model, shapes)}

    def _enough(self, names: Sequence[str], macs: Mapping[str, int]) -> bool:
        return sum(macs[name] for name in names) > LEAST_SHARE * sum(macs.values())

    def _refuse(self, what: str, names: Sequence[str], macs: Mapping[str, int]) -> Result:
        share = sum(macs[name] for name in names) / max(1, sum(macs.values()))
        why = f"{share:.0%} of its multiplications {what}"
        if self.options.stages.get(self.name) == "int8":
            raise OptionError(
                f"the stage {self.name!r} cannot be int8: {why}, at least {LEAST_SHARE:.0%} was "
                "expected",
                remedy=f"leave it out, or write {self.name}=fp16",
            )
        return self.model, "fp32", {"float32_because": why}
