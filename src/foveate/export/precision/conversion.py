# SPDX-License-Identifier: Apache-2.0
"""A float32 bundle to stages of other precisions, with the record of how they were found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
import onnx_ir as ir
from onnx import shape_inference

from foveate.bundle import Bundle
from foveate.errors import ModelError, OptionError
from foveate.export.checks.bisect import first_difference
from foveate.export.checks.graph import layers, sized
from foveate.export.checks.precision import LEAST_SHARE
from foveate.export.execution.rounding import with_fp16_rounding
from foveate.export.execution.sessions import session_function
from foveate.export.precision.affine import fold_affine
from foveate.export.precision.correction import correct_biases
from foveate.export.precision.float16 import LARGEST, float_values, to_float16
from foveate.export.precision.layers import find_layers
from foveate.export.precision.observation import Call, observe, small_calls, stage_calls
from foveate.export.precision.options import PrecisionOptions
from foveate.export.precision.quantise import Quantiser, rounded_values
from foveate.export.precision.search import choose_layers, quantization_error

_TRIED_CALLS = 8
_MAX_FLOAT16_ERROR = 1e-3
"""Noise up to which a float16 stage is written; what `search` measures, on the same calls."""

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Stages in their precisions.

    Attributes:
        models: stage -> its model, of the networks; other stages are not converted.
        precision: stage -> what it became: a stage with little that may be INT8 stays float32
            where nobody asked for it by name.
        record: for the manifest's provenance.
    """

    models: dict[str, onnx.ModelProto] = field(default_factory=dict)
    precision: dict[str, str] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)


def convert(bundle: Bundle, options: PrecisionOptions, tell: Tell | None = None) -> Converted:
    """Convert the stages of a bundle.

    Args:
        bundle: in float32.
        options: what is asked for.
        tell: is told a task, and how much of it is done, of how much.

    Raises:
        OptionError: a stage is named that the bundle has not, or of which little may be INT8.
        ModelError: a stage cannot be had in its precision without losing too much.
        InputError: an image cannot be read.
    """
    stages = bundle.manifest.networks
    for name in options.stages:
        if name not in stages:
            raise OptionError(
                f"the network has no stage {name!r}", remedy=f"name one of {', '.join(stages)}"
            )
    say = tell or (lambda _task, _done, _total: None)
    calls = stage_calls(bundle, options.images, lambda *so_far: say("Images", *so_far))
    converted = Converted(
        record={
            "images": [path.name for path in options.images],
            "method": options.method,
            "max_quantization_error": options.max_quantization_error,
            "stages": {},
        }
    )
    for name in stages:
        stage = _Stage(name, onnx.load(bundle.stage_path(name)), calls[name], options, say)
        convertors = {"fp32": stage.to_fp32, "fp16": stage.to_fp16, "int8": stage.to_int8}
        model, precision, record = convertors[options.of(name)]()
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
    say: Tell

    def to_fp32(self) -> Result:
        return self.model, "fp32", {}

    def to_fp16(self) -> Result:
        observed = observe(self.model, self.calls, float_values(self.model))
        large = [name for name, one in observed.items() if one.histogram.largest > LARGEST]
        found = to_float16(self.model, large)
        emulated = with_fp16_rounding(shape_inference.infer_shapes(found))
        calls = small_calls(self.calls, _TRIED_CALLS)
        exact, own = session_function(self.model), session_function(emulated)
        lost = quantization_error([exact(call) for call in calls], [own(call) for call in calls])
        if not lost <= _MAX_FLOAT16_ERROR:
            drift = first_difference(
                (self.model, emulated),
                self.name,
                calls[0],
                _MAX_FLOAT16_ERROR,
                "the calibration images",
            )
            raise ModelError(
                f"the stage {self.name!r} loses too much in float16: {drift}",
                remedy=f"leave it in float32: --precision {self.name}=fp32,...",
            )
        self.say(f"{self.name} in fp16", 1, 1)
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
        quantiser = Quantiser(model=model, observed=observed, method=self.options.method)
        tried = small_calls(self.calls, _TRIED_CALLS)
        choice = choose_layers(
            quantiser,
            candidates,
            tried,
            self.options.max_quantization_error,
            lambda *so_far: self.say(f"Layers of {self.name}", *so_far),
        )
        if not self._enough(choice.layers, macs):
            return self._refuse("are INT8 within the quantization error", choice.layers, macs)
        corrected = correct_biases(
            model,
            quantiser.quantised(choice.layers),
            tried,
            lambda *so_far: self.say(f"Biases of {self.name}", *so_far),
        )
        exact, own = session_function(model), session_function(corrected)
        record = {
            "quantization_error": quantization_error(
                [exact(call) for call in tried], [own(call) for call in tried]
            ),
            "left_out": list(choice.left_out),
            "quantization_error_alone": choice.alone,
            "never": never,
        }
        return corrected, "int8", record

    def _macs(self, model: onnx.ModelProto) -> Mapping[str, int]:
        shapes = {name: array.shape for name, array in self.calls[0].items()}
        return {one.name: one.macs or 0 for one in layers(sized(model, shapes))}

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
