# SPDX-License-Identifier: Apache-2.0
"""Names of the files in which an ONNX file stores weights, read without ``onnx``."""

from collections.abc import Iterator
from typing import IO

# For each message of onnx.proto, the fields that lead to tensors, and their messages.
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": dict(
        zip((5, 6, 10, 11, 22, 23), ("tensor", "graph") * 2 + ("sparse",) * 2, strict=True)
    ),
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {1: "text", 2: "text"},
}
# Bytes of a value by wire type. The fields of a group (types 3 and 4) are read as its parent's.
_FIXED = {1: 8, 3: 0, 4: 0, 5: 4}
# A message of at most so many bytes is searched for the key of a location before it is read by field,
# which takes much longer. Larger ones have weights, which reading by field leaves out.
_SEARCHED = 1 << 16


def external_files(stream: IO[bytes], size: int) -> Iterator[str]:
    """Yield the locations of external data in the graphs, functions and attributes of an ONNX file.

    Args:
        stream: The file, at its beginning.
        size: Size of the file in bytes.
    """
    messages = [("model", size)]
    texts: list[bytes] = []
    while messages:
        kind, end = messages[-1]
        if stream.tell() >= end:
            # An entry is a key and a value, in either order.
            if kind == "entry" and b"location" in texts:
                yield from (text.decode(errors="replace") for text in texts if text != b"location")
            messages.pop()
            continue
        tag = _varint(stream)
        length = _length(stream, tag & 7) if tag >> 3 else -1
        if length < 0 or stream.tell() + length > end:
            return  # not a protobuf message: ONNX Runtime refuses the file
        inside = _FIELDS[kind].get(tag >> 3) if tag & 7 == 2 else None
        if inside == "text":
            texts.append(stream.read(length))
        elif inside is not None:
            start = stream.tell()
            if length <= _SEARCHED and b"location" not in stream.read(length):
                continue
            stream.seek(start)
            messages.append((inside, start + length))
            texts.clear()
        else:
            stream.seek(length, 1)  # weights are skipped, not read


def _length(stream: IO[bytes], wire: int) -> int:
    """Return the number of bytes that follow in a field, or -1 for an unknown wire type."""
    if wire == 0:
        return 0 if _varint(stream) >= 0 else -1
    return _varint(stream) if wire == 2 else _FIXED.get(wire, -1)


def _varint(stream: IO[bytes]) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            break
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    return -1
