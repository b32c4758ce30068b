# SPDX-License-Identifier: Apache-2.0
"""A writer of the binary format of Torch7 for tests, which shares no code with the reader.

Python's None, bool, int, float and str stand for Lua's nil, boolean, number and string; a dict is a
table, a list is a table with the keys 1, 2, ... The same object written twice is a back-reference.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ELEMENTS = {
    "Byte": "<u1",
    "Char": "<i1",
    "Short": "<i2",
    "Int": "<i4",
    "Half": "<f2",
    "Float": "<f4",
    "Double": "<f8",
    "": "<f4",
}


@dataclass(eq=False)
class T7Object:
    """An object whose body is one table, after the values ``before`` if there are any."""

    name: str
    fields: dict[Any, Any] = field(default_factory=dict)
    version: int = 1
    before: tuple[Any, ...] = ()


@dataclass(eq=False)
class T7Function:
    bytecode: bytes = b"\x1bLJ\x01"
    upvalues: Any = field(default_factory=list)
    tag: int = 8


@dataclass(eq=False)
class T7Storage:
    """A storage; ``kind`` is the part of its class before "Storage": Float, Cuda, CudaLong, ..."""

    values: np.ndarray
    kind: str = "Float"


@dataclass(eq=False)
class T7Tensor:
    storage: T7Storage | None
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    kind: str = "Float"


def tensor(values: Any, kind: str = "Float") -> T7Tensor:
    """Make a contiguous tensor with a storage of its own."""
    array = np.ascontiguousarray(values)
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return T7Tensor(T7Storage(array.reshape(-1), kind), array.shape, strides, 0, kind)


def flattened(arrays: list[np.ndarray], kind: str = "Float") -> list[T7Tensor]:
    """Make tensors that share one storage, as after ``getParameters``."""
    storage = T7Storage(np.concatenate([array.reshape(-1) for array in arrays]), kind)
    tensors, offset = [], 0
    for array in arrays:
        strides = tuple(stride // array.itemsize for stride in array.strides)
        tensors.append(T7Tensor(storage, array.shape, strides, offset, kind))
        offset += array.size
    return tensors


class T7Writer:
    """A serializer of one object; ``positions`` has those of lengths and indices, for mutation."""

    def __init__(self, *, long_size: int = 8, versions: bool = True):
        self.content = bytearray()
        self.positions: dict[str, list[int]] = {"tag": [], "index": [], "length": [], "long": []}
        self._long_size = long_size
        self._versions = versions
        self._indices: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no id is used twice

    def write(self, value: Any) -> bytes:
        self._value(value)
        return bytes(self.content)

    def _value(self, value: Any) -> None:
        if value is None:
            self._int(0, "tag")
        elif isinstance(value, bool):
            self._int(5, "tag")
            self._int(int(value))
        elif isinstance(value, int | float):
            self._int(1, "tag")
            self.content += struct.pack("<d", value)
        elif isinstance(value, str):
            self._int(2, "tag")
            self._string(value)
        elif isinstance(value, T7Function) and value.tag == 6:
            self._int(6, "tag")
            self._function(value)
        else:
            self._indexed(value)

    def _indexed(self, value: Any) -> None:
        is_table = isinstance(value, dict | list)
        tag = 3 if is_table else value.tag if isinstance(value, T7Function) else 4
        self._int(tag, "tag")
        known = self._indices.get(id(value))
        index = self._indices.setdefault(id(value), len(self._indices) + 1)
        self._kept.append(value)
        self._int(index, "index")
        if known is not None:
            return
        if is_table:
            self._table(value)
        elif isinstance(value, T7Function):
            self._function(value)
        else:
            self._object(value)

    def _table(self, value: Any) -> None:
        entries = value if isinstance(value, dict) else dict(enumerate(value, 1))
        self._int(len(entries), "length")
        for key, item in entries.items():
            self._value(key)
            self._value(item)

    def _function(self, value: T7Function) -> None:
        self._int(len(value.bytecode), "length")
        self.content += value.bytecode
        self._value(value.upvalues)

    def _object(self, value: Any) -> None:
        if isinstance(value, T7Object):
            self._header(value.name, value.version)
            for item in value.before:
                self._value(item)
            self._value(value.fields)
        elif isinstance(value, T7Tensor):
            self._header(f"torch.{value.kind}Tensor", 1)
            self._int(len(value.shape), "length")
            self._longs((*value.shape, *value.strides, value.offset + 1))
            self._value(value.storage)
        else:
            self._header(f"torch.{value.kind}Storage", 1)
            self._longs((len(value.values),))
            element = value.kind.removeprefix("Cuda")
            long_element = f"<i{self._long_size}"
            as_element = long_element if element == "Long" else ELEMENTS[element]
            self.content += value.values.astype(as_element).tobytes()

    def _header(self, name: str, version: int) -> None:
        if self._versions:
            self._string(f"V {version}")
        self._string(name)

    def _string(self, value: str) -> None:
        encoded = value.encode("utf-8", "surrogateescape")
        self._int(len(encoded), "length")
        self.content += encoded

    def _int(self, value: int, what: str | None = None) -> None:
        if what is not None:
            self.positions[what].append(len(self.content))
        self.content += struct.pack("<i", value)

    def _longs(self, values: tuple[int, ...]) -> None:
        for value in values:
            self.positions["long"].append(len(self.content))
            self.content += struct.pack("<q" if self._long_size == 8 else "<i", value)


def write_torch7(path: Path, value: Any, **options: Any) -> Path:
    path.write_bytes(T7Writer(**options).write(value))
    return path
