# SPDX-License-Identifier: Apache-2.0
"""INT8 layers as explicit QuantizeLinear and DequantizeLinear nodes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import numpy_helper

from foveate.arrays import Float32Array
from foveate.export.execution.stage_model import CODES, CORRECTED, SCALES
from foveate.export.precision.calibration import Call, Encoding, Observed, encode, observe
from foveate.export.precision.layers import (
    Layer,
    add_initializer,
    constant,
    find_layers,
    insert_after,
    remove_unused,
    take_output,
)
from foveate.progress import Progress, no_progress

_LARGEST_CODE = 127
_LARGEST_PAIR = 128
"""Largest sum of two neighboring codes of one sign: 255 * 128 is below 2^15."""


class QuantizedWeights(NamedTuple):
    """Int8 codes in the shape of the weights, and (outputs,) float32 scales."""

    codes: NDArray[np.int8]
    scales: Float32Array


def quantize_weights(
    weights: Float32Array, axis: int, *, depthwise: bool = False, least: Float32Array | None = None
) -> QuantizedWeights:
    """Quantize weights symmetrically, with one scale per output.

    Args:
        weights: Weights of a convolution (O, I, H, W), or of a product (O, I) or (I, O).
        axis: Axis that counts the outputs.
        depthwise: Whether each output reads one channel; processors sum such products in 32 bits.
        least: (outputs,) or (1,) lower bounds of the scales.
    """
    # Without VNNI an x86 processor multiplies pairs of bytes and adds them in 16 bits with saturation
    # (VPMADDUBSW): 255 * 127 + 255 * 127 silently becomes 32767. The scale of an output is therefore
    # the smallest for which no two neighbors can saturate. That costs little, since large neighbors
    # of one sign are rare; seven bits for all weights would cost half of the resolution.
    rows = np.moveaxis(weights, axis, 0)
    largest = np.abs(rows.reshape(len(rows), -1)).max(axis=1, initial=0.0) / _LARGEST_CODE
    if not depthwise:
        # Neighbors in memory, with channels last or first.
        for layout in (rows, np.moveaxis(rows, 1, -1)):
            # Rounding moves each by up to half a code, so the bound of a pair is one less.
            pairs = _largest_pairs(layout.reshape(len(rows), -1)) / (_LARGEST_PAIR - 1)
            largest = np.maximum(largest, pairs)
    if least is not None:
        largest = np.maximum(largest, least)
    scales = np.where(largest > 0, largest, 1.0).astype(np.float32)
    shape = [1] * weights.ndim
    shape[axis] = -1
    codes = np.rint(weights / scales.reshape(shape)).clip(-_LARGEST_CODE, _LARGEST_CODE)
    return QuantizedWeights(codes=codes.astype(np.int8), scales=scales)


def _largest_pairs(rows: Float32Array) -> Float32Array:
    """Return the largest sum of two neighbors of one sign in each row, without an odd last weight."""
    left, right = rows[:, :-1:2], rows[:, 1::2]
    sums = [np.maximum(sign * left, 0) + np.maximum(sign * right, 0) for sign in (1.0, -1.0)]
    largest: Float32Array = np.maximum(*sums).max(axis=1, initial=0.0)
    return largest


_MOST = 2.0**30
"""Largest bias in units of the source's scale times the weights' scale, in which runtimes store it as
int32. For outputs whose weights are all near zero (dead outputs) it would silently overflow."""

_COPIES = (
    "Flatten",
    "Identity",
    "MaxPool",
    "Pad",
    "Reshape",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)


def rounded_values(model: onnx.ModelProto) -> list[str]:
    """Return the names of the values whose statistics the quantization of any layer needs."""
    graph = ir.serde.deserialize_model(model).graph
    names: dict[str, None] = {}
    for layer in find_layers(graph):
        for value in (layer.source, layer.result):
            names |= {one.name or "": None for one in _copied(value)}
    return list(names)


@dataclass(frozen=True, kw_only=True)
class Quantizer:
    """A quantizer of any choice of the layers of a stage, by one of the calibration ``METHODS``."""

    model: onnx.ModelProto  # float32, with affine maps folded
    observed: Mapping[str, Observed]  # by name, for all ``rounded_values``
    method: str

    def quantized(self, names: Collection[str]) -> onnx.ModelProto:
        """Return a copy of the model with the named layers in INT8."""
        # The weights of a chosen layer are stored as int8, and its source and its result (behind ReLU
        # or ReLU6) are rounded to eight bits. Every reader of such a value reads the rounded one, so
        # that runtimes keep eight bits only: ONNX Runtime makes QLinearConv of DQ, Conv, Clip and Q,
        # and QLinearAdd of a sum between rounded values. Values that a node only copies (padding, max
        # pooling) share the codes of their origin.
        copy = ir.serde.deserialize_model(self.model)
        graph = copy.graph
        layers = list(find_layers(graph))
        chosen = [layer for layer in layers if layer.name in names]
        exact = [layer for layer in layers if layer.name not in names]
        values: dict[ir.Value, ir.Value] = {}
        for layer in chosen:
            self._quantize_weights(graph, layer)
            for value in (layer.source, layer.result):
                chain = _copied(value)
                values |= dict.fromkeys(chain, chain[-1])
        for value, origin in values.items():
            spared = exact if any(layer.result is value for layer in exact) else []
            _round(graph, value, self._encoding(origin), [layer.node for layer in spared])
        remove_unused(copy)
        return ir.serde.serialize_model(copy)

    def _encoding(self, value: ir.Value) -> Encoding:
        return encode(self.observed[value.name or ""].histogram, self.method)

    def _quantize_weights(self, graph: ir.Graph, layer: Layer) -> None:
        node, weights = layer.node, layer.weight
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        source = self._encoding(_copied(layer.source)[-1])
        sizes = np.zeros(1) if bias is None else np.abs(bias)
        least = (sizes / (_MOST * source.scale)).astype(np.float32)
        found = quantize_weights(weights, layer.axis, depthwise=layer.depthwise, least=least)
        stored = node.inputs[1]
        base = (stored.name if stored is not None else None) or node.name or ""
        codes = add_initializer(graph, base + CODES, found.codes)
        scales = add_initializer(graph, base + SCALES, found.scales)
        zeros = add_initializer(graph, f"{base}_zeros", np.zeros_like(found.scales, np.int8))
        dequantize = ir.node(
            "DequantizeLinear", [codes, scales, zeros], {"axis": layer.axis}, name=f"{base}_restore"
        )
        dequantize.outputs[0].name = f"{base}_restored"
        graph.insert_before(node, dequantize)
        node.replace_input_with(1, dequantize.outputs[0])
        if node.op_type == "MatMul":
            return
        shape = [1] * weights.ndim
        shape[layer.axis] = -1
        lost = found.codes * found.scales.reshape(shape) - weights
        shift = _mean_shift(layer, lost, self.observed[layer.source.name or ""].means)
        corrected = (0.0 if bias is None else bias.astype(np.float32)) - shift
        node.resize_inputs(3)
        name = f"{base}_bias" if node.inputs[2] is None else node.inputs[2].name or base
        value = add_initializer(graph, name + CORRECTED, corrected.astype(np.float32))
        node.replace_input_with(2, value)


def _mean_shift(layer: Layer, lost: Float32Array, means: Float32Array) -> Float32Array:
    """Return the shift of each output's mean that rounding the weights causes."""
    # Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV
    # 2019), section 4.2: the mean of the products with the rounding errors is known.
    rows = np.moveaxis(lost, layer.axis, 0)
    per_input = rows.reshape(*rows.shape[:2], -1).sum(axis=2)
    groups = len(means) // per_input.shape[1]
    own = means.reshape(groups, per_input.shape[1]).repeat(len(per_input) // groups, axis=0)
    shift: Float32Array = (per_input * own).sum(axis=1)
    return shift


def _round(
    graph: ir.Graph, value: ir.Value, encoding: Encoding, spared: Collection[ir.Node]
) -> None:
    name = value.name
    scale = add_initializer(graph, f"{name}_scale", np.array(encoding.scale, np.float32))
    zero = add_initializer(graph, f"{name}_zero", np.array(encoding.zero_point, np.uint8))
    readers = [use for use in value.uses() if use.node not in spared]
    quantize = ir.node("QuantizeLinear", [value, scale, zero], name=f"{name}_quantize")
    quantize.outputs[0].name = f"{name}_quantized"
    inputs = [quantize.outputs[0], scale, zero]
    restore = ir.node("DequantizeLinear", inputs, name=f"{name}_restore")
    restored = restore.outputs[0]
    restored.name = f"{name}_restored"
    insert_after(graph, value, [quantize, restore])
    for use in readers:
        use.node.replace_input_with(use.idx, restored)
    take_output(graph, value, restored, "exact")


def _copied(value: ir.Value) -> list[ir.Value]:
    """Return a value and the values that it is a copy of, up to the origin."""
    node = value.producer()
    source = node.inputs[0] if node is not None and node.op_type in _COPIES else None
    return [value] if source is None else [value, *_copied(source)]


def correct_biases(
    exact: onnx.ModelProto,
    quantized: onnx.ModelProto,
    calls: Sequence[Call],
    progress: Progress = no_progress,
) -> onnx.ModelProto:
    """Return a copy of a quantized stage whose biases restore the means of the exact outputs."""
    # Rounding shifts the mean of a layer's output, most of all if a channel that it reads is nearly
    # constant and so lies on one side of its code in all images. Each bias absorbs the shift of
    # the means, one layer after the other, because a layer reads what the corrections before it have
    # left: Nagel et al. (ICCV 2019), section 4.2, with measured means.
    corrected = onnx.ModelProto()
    corrected.CopyFrom(quantized)
    stored = {one.name: one for one in corrected.graph.initializer}
    layers = [node for node in corrected.graph.node if node.input[-1].endswith(CORRECTED)]
    outputs = {node.name: node.output[0] for node in exact.graph.node}
    expected = observe(exact, calls, [outputs[layer.name] for layer in layers])
    for number, layer in enumerate(layers):
        (own,) = observe(corrected, calls, layer.output).values()
        shift = expected[outputs[layer.name]].means - own.means
        bias = stored[layer.input[-1]]
        moved = numpy_helper.to_array(bias) + shift
        bias.CopyFrom(numpy_helper.from_array(moved, bias.name))
        progress("Biases", number + 1, len(layers))
    return corrected
