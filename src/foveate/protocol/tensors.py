# SPDX-License-Identifier: Apache-2.0
"""Messages of the Open Inference Protocol (version 2) over HTTP: tensors as bytes and as JSON.

A request and a response have the same form: a JSON document with a list of tensors. By the
extension for binary tensors, the content of a tensor follows the document instead of standing in
it, and the header ``Inference-Header-Content-Length`` has the length of the document.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeGuard

import numpy as np

from foveate.arrays import Array
from foveate.bundle.schema import load_json

HEADER_LENGTH = "Inference-Header-Content-Length"
"""Header with the length of the JSON document of a message with binary tensors."""
BINARY_EXTENSION = "binary_tensor_data"
"""Name of the extension in the metadata of a server."""

_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(np.object_),  # of `bytes`
}
DATATYPES = {dtype: name for name, dtype in _DTYPES.items()}
"""Name of the data type of each type of array."""
_MOST_DIMENSIONS, _MOST_ELEMENTS = 32, 1 << 48
_ELEMENT = struct.Struct("<I")  # length of an element of BYTES, before its content


class MessageError(ValueError):
    """A message is not of the protocol; the text says what was expected and what was found."""


@dataclass(frozen=True, kw_only=True)
class TensorMetadata:
    """An input or output of a model, as its metadata describes it.

    Args:
        name: Name of the tensor.
        datatype: Its data type, such as "UINT8", "FP32" or "BYTES".
        shape: Length of each dimension; -1 for one that varies.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether a tensor may have this shape."""
        return len(shape) == len(self.shape) and all(
            want in (-1, have) for want, have in zip(self.shape, shape, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class Message:
    """A request or a response.

    Args:
        body: The JSON document and the binary tensors after it.
        document_bytes: Length of the document; None if there is nothing after it.
    """

    body: bytes
    document_bytes: int | None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that describe the body."""
        if self.document_bytes is None:
            return {"Content-Type": "application/json"}
        return {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(self.document_bytes)}


def encode_message(
    document: Mapping[str, Any], key: str, tensors: Mapping[str, Array], *, binary: Collection[str]
) -> Message:
    """Return the message of some tensors.

    Args:
        document: Other entries of the JSON document.
        key: Name of the list of tensors: "inputs" of a request, "outputs" of a response.
        tensors: Arrays of the types of the protocol by name; those of type object contain
            ``bytes``.
        binary: Names of the tensors that follow the document. The elements of the others are
            written in it, for which those of ``bytes`` must be UTF-8.
    """
    entries, tail = [], []
    for name, array in tensors.items():
        datatype = DATATYPES[array.dtype]
        entry: dict[str, Any] = {"name": name, "shape": array.shape, "datatype": datatype}
        if name in binary:
            content = _pack(array) if datatype == "BYTES" else array.tobytes()
            tail.append(content)
            entry["parameters"] = {"binary_data_size": len(content)}
        elif datatype == "BYTES":
            entry["data"] = [one.decode("utf-8") for one in array.ravel()]
        else:
            entry["data"] = array.ravel().tolist()
        entries.append(entry)
    head = json.dumps({**document, key: entries}, separators=(",", ":")).encode()
    return Message(body=b"".join([head, *tail]), document_bytes=len(head) if tail else None)


def decode_message(
    body: bytes, document_bytes: str | None, key: str
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the JSON document of a message, and its tensors by name.

    Args:
        body: The body.
        document_bytes: Value of the header with the length of the document, if there is one.
        key: Name of the list of tensors.

    Returns:
        The document, and arrays that may share the memory of the body; elements of BYTES are
        ``bytes``.

    Raises:
        MessageError: The message is not of the protocol, or contradicts itself.
    """
    length = len(body) if document_bytes is None else _length(document_bytes, len(body))
    try:
        document = load_json(body[:length])
    except ValueError as error:
        raise MessageError(f"the message is not JSON ({error})") from error
    if not isinstance(document, dict) or not isinstance(document.get(key), list):
        raise MessageError(f"the message must be a JSON object with a list {key!r}")
    tail = _Tail(memoryview(body)[length:])
    tensors: dict[str, Array] = {}
    for entry in document[key]:
        name, array = _tensor(entry, tail)
        if name in tensors:
            raise MessageError(f"the tensor {name!r:.60} occurs twice")
        tensors[name] = array
    if tail.rest:
        raise MessageError(f"the message has {tail.rest} bytes after its last tensor")
    return document, tensors


class _Tail:
    """The binary tensors after the document."""

    def __init__(self, content: memoryview) -> None:
        self._content = content

    @property
    def rest(self) -> int:
        return len(self._content)

    def take(self, name: str, size: object) -> memoryview:
        if not _is_count(size) or size > self.rest:
            raise MessageError(
                f"the tensor {name!r:.60} has a binary_data_size of {size!r:.20}, and {self.rest} "
                "bytes are left"
            )
        taken, self._content = self._content[:size], self._content[size:]
        return taken


def _tensor(entry: object, tail: _Tail) -> tuple[str, Array]:
    """Return the name and the content of a tensor."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise MessageError("a tensor must be a JSON object with a name")
    name, datatype, shape = entry["name"], entry.get("datatype"), entry.get("shape")
    if not isinstance(datatype, str) or datatype not in _DTYPES:
        raise MessageError(
            f"the tensor {name!r:.60} has the data type {datatype!r:.20}, expected "
            f"{', '.join(_DTYPES)}"
        )
    if not isinstance(shape, list) or not _is_shape(shape):
        raise MessageError(f"the tensor {name!r:.60} has the shape {shape!r:.60}")
    parameters = entry.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return name, _from_json(name, datatype, shape, entry.get("data"))
    content = tail.take(name, size)
    if datatype == "BYTES":
        return name, _unpack(name, shape, content)
    dtype = _DTYPES[datatype]
    if len(content) != prod(shape) * dtype.itemsize:
        raise MessageError(
            f"the tensor {name!r:.60} of {datatype} and shape {shape} needs "
            f"{prod(shape) * dtype.itemsize} bytes, found {len(content)}"
        )
    return name, np.frombuffer(content, dtype).reshape(shape)


def _from_json(name: str, datatype: str, shape: list[int], data: object) -> Array:
    """Return a tensor whose elements stand in the document, flat or nested."""
    wrong = MessageError(f"the tensor {name!r:.60} has no data of {datatype} and shape {shape}")
    if not isinstance(data, list):
        raise wrong
    if datatype == "BYTES":
        if len(data) != prod(shape) or not all(isinstance(one, str) for one in data):
            raise wrong
        return _objects([one.encode("utf-8", "surrogatepass") for one in data], shape)
    try:
        # NumPy takes `true` for a number, and numbers for `true`.
        kinds = {type(one) for one in np.asarray(data, np.object_).flat}
        given = np.asarray(data)
        with np.errstate(invalid="ignore", over="ignore"):  # checked below
            array = given.astype(_DTYPES[datatype])
    except (ValueError, OverflowError, TypeError) as error:
        raise wrong from error
    typed = kinds <= ({bool} if datatype == "BOOL" else {int, float})
    # An integer tensor takes no fractions, and no tensor takes values out of its range.
    fits = np.isfinite(array).all() if array.dtype.kind == "f" else np.array_equal(array, given)
    right = typed and fits and given.dtype.kind in "biuf"
    if given.size != prod(shape) or (given.size and not right):
        raise wrong
    return array.reshape(shape)


def _pack(array: Array) -> bytes:
    return b"".join(_ELEMENT.pack(len(one)) + one for one in array.ravel())


def _unpack(name: str, shape: list[int], content: memoryview) -> Array:
    """Return the elements of BYTES, each of which begins with its length."""
    elements, position = [], 0
    while position < len(content):
        start = position + _ELEMENT.size
        end = start
        if start <= len(content):
            end += _ELEMENT.unpack_from(content, position)[0]
        if start > len(content) or end > len(content):
            raise MessageError(f"the tensor {name!r:.60} ends within an element")
        elements.append(bytes(content[start:end]))
        position = end
    if len(elements) != prod(shape):
        raise MessageError(
            f"the tensor {name!r:.60} of shape {shape} needs {prod(shape)} elements, found "
            f"{len(elements)}"
        )
    return _objects(elements, shape)


def _objects(elements: list[bytes], shape: list[int]) -> Array:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array.reshape(shape)


def _length(text: str, largest: int) -> int:
    # `int` would accept signs, spaces and digits of other scripts.
    if not (text.isascii() and text.isdecimal()) or int(text[:20]) > largest:
        raise MessageError(
            f"{HEADER_LENGTH} must be a number up to the {largest} bytes of the body, found "
            f"{text!r:.30}"
        )
    return int(text)


def _is_shape(lengths: list[object]) -> TypeGuard[list[int]]:
    """Return whether NumPy can create an array of this shape."""
    counts = [one for one in lengths if _is_count(one)]
    # NumPy bounds the product of the other lengths even if one of them is 0.
    bounded = prod(one or 1 for one in counts) <= _MOST_ELEMENTS
    return len(counts) == len(lengths) <= _MOST_DIMENSIONS and bounded


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
