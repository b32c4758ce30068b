# SPDX-License-Identifier: Apache-2.0
"""Biases that take back what eight bits move in the mean, measured.

Rounding moves the mean of a layer's output, and most where a channel that it reads is nearly
constant: such a channel lies on one side of its code in all images. So a bias takes the difference
between the means of the exact output and its own, one layer after the other, because what a layer
reads holds what was left by those before it: Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction" (ICCV 2019), section 4.2, with means of data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
from onnx import numpy_helper

from foveate.export.precision.observation import Call, observe
from foveate.export.precision.quantise import CORRECTED


def correct_biases(
    exact: onnx.ModelProto,
    quantised: onnx.ModelProto,
    calls: Sequence[Call],
    tell: Callable[[int, int], None] | None = None,
) -> onnx.ModelProto:
    """Copy a stage whose layers are in INT8, with biases that keep the means of their outputs.

    Args:
        exact: the stage in float32, with the same names of nodes.
        quantised: of `Quantiser.quantised`.
        calls: inputs by name; means are those over all of them.
        tell: is told the number of layers done, and of all.
    """
    corrected = onnx.ModelProto()
    corrected.CopyFrom(quantised)
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
        if tell is not None:
            tell(number + 1, len(layers))
    return corrected
