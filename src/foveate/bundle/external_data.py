# SPDX-License-Identifier: Apache-2.0
"""Names of the files that an ONNX file keeps weights in, read without ``onnx``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

# For each message of onnx.proto the fields that lead to tensors, and what they hold.
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
_FIXED = {
    1: 8,
    3: 0,
    4: 0,
    5: 4,
}  # bytes of a value, by wire type; groups are read like their parent


def external_files(stream: IO[bytes], size: int) -> Iterator[str]:
    """Yield the locations that tensors of an ONNX file name, in graphs, functions and attributes.

    Weights are skipped, not read. A file that is no protobuf message ends the search, since no other reader accepts it.

    Args:
        stream: The file, at its beginning.
        size: Its size in bytes.
    """
    messages = [("model", size)]
    texts: list[bytes] = []
    while messages:
        kind, end = messages[-1]
        if stream.tell() >= end:
            if kind == "entry" and b"location" in texts:
                yield from (text.decode(errors="replace") for text in texts if text != b"location")
            messages.pop()
            continue
        tag = _varint(stream)
        length = _length(stream, tag & 7) if tag >> 3 else -1
        if length < 0 or stream.tell() + length > end:
            return
        inside = _FIELDS[kind].get(tag >> 3) if tag & 7 == 2 else None
        if inside == "text":
            texts.append(stream.read(length))
        elif inside is not None:
            messages.append((inside, stream.tell() + length))
            texts.clear()
        else:
            stream.seek(length, 1)


def _length(stream: IO[bytes], wire: int) -> int:
    """Return how many bytes of a field follow, or -1 if there is no such wire type."""
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
