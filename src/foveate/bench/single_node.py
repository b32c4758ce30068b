# SPDX-License-Identifier: Apache-2.0
"""ONNX files of one node, written without the package onnx, which is not a part of the base install.

An ONNX file is a protocol buffer: fields of a number, a wire type and a value. The numbers are those
of ``onnx.proto``, which never change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from foveate.arrays import Array

_IR_VERSION, _OPSET = 8, 18
_DTYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "float16": 10}
_INT, _INTS = 2, 7  # AttributeProto.AttributeType


def single_node(
    op: str,
    *,
    shape: Sequence[int],
    result: Sequence[int],
    dtype: str,
    constants: Mapping[str, Array],
    attributes: Mapping[str, int | Sequence[int]],
) -> bytes:
    """Return the content of an ONNX file of one node, whose first input is that of the model.

    Args:
        op: Standard operator.
        shape: Shape of the input ``x``.
        result: Shape of the output ``y``.
        dtype: Element type of both.
        constants: The other inputs of the node, in order.
        attributes: Integers, or lists of integers, by name.
    """
    node = [_field(1, name.encode()) for name in ("x", *constants)]
    node += [_field(2, b"y"), _field(4, op.encode())]
    node += [_field(5, _attribute(name, value)) for name, value in attributes.items()]
    graph = [_field(1, b"".join(node)), _field(2, b"single")]
    graph += [_field(5, _tensor(name, value)) for name, value in constants.items()]
    graph += [_field(11, _value("x", dtype, shape)), _field(12, _value("y", dtype, result))]
    opset = _field(1, b"") + _field(2, _OPSET)
    return _field(1, _IR_VERSION) + _field(7, b"".join(graph)) + _field(8, opset)


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _field(1, name.encode()) + _field(3, value) + _field(20, _INT)
    numbers = b"".join(_field(8, number) for number in value)
    return _field(1, name.encode()) + numbers + _field(20, _INTS)


def _tensor(name: str, value: Array) -> bytes:
    sides = b"".join(_field(1, side) for side in value.shape)
    # Raw data is little-endian on every machine.
    raw = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes()
    kind = _field(2, _DTYPES[value.dtype.name])
    return sides + kind + _field(8, name.encode()) + _field(9, raw)


def _value(name: str, dtype: str, shape: Sequence[int]) -> bytes:
    sides = b"".join(_field(1, _field(1, side)) for side in shape)
    tensor = _field(1, _DTYPES[dtype]) + _field(2, sides)
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _field(number: int, value: int | bytes) -> bytes:
    """Return a field: a number of variable length, or bytes with their length before them."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Return a number of at least 0 as groups of 7 bits, the lowest first, with a flag for more."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups[-1] |= 0x80
        groups.append(value & 0x7F)
    return bytes(groups)
