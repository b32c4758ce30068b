# SPDX-License-Identifier: Apache-2.0
"""What a Torch7 file holds: tables, named nodes, tensors over shared storages. Nothing that acts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from foveate.errors import ModelError

MAX_DIMENSIONS = 16


@dataclass(eq=False)
class Table:
    """A Lua table. Two tables are equal if they are the same object, as in Lua.

    Attributes:
        entries: Keys to values, in the order of the file. A whole number is an `int`.
    """

    entries: dict[Key, Value] = field(default_factory=dict)

    def __getitem__(self, key: Key) -> Value:
        """Return the value of a key, None (Lua's nil) if there is none."""
        return self.entries.get(key)

    def sequence(self) -> list[Value]:
        """Return the values of the keys 1, 2, ... up to the first that is absent."""
        values: list[Value] = []
        while (value := self.entries.get(len(values) + 1)) is not None:
            values.append(value)
        return values


@dataclass(eq=False)
class Node:
    """An object of a Torch class, as a name and its fields.

    Attributes:
        name: Of the class, such as ``nn.Linear``.
        version: Of the class, 0 for a file that is older than versions.
        fields: What the object had.
    """

    name: str
    version: int = 0
    fields: Table = field(default_factory=Table)

    def __getitem__(self, key: Key) -> Value:
        """Return a field, None if there is none."""
        return self.fields[key]


@dataclass(eq=False)
class Function:
    """A Lua function, of which nothing is kept."""


@dataclass(eq=False)
class Storage:
    """The memory behind tensors.

    Attributes:
        name: Of the class, such as ``torch.CudaStorage``.
        values: (n,) read-only view into the file; the page is read when it is looked at.
    """

    name: str
    values: NDArray[np.generic]


@dataclass(eq=False)
class Tensor:
    """A strided view of a storage; several may share one.

    Attributes:
        name: Of the class, such as ``torch.FloatTensor``.
        shape: Empty for a tensor without elements.
        strides: In elements, one an axis.
        offset: Of the first element, from 0.
        storage: None for a tensor without elements.
    """

    name: str
    shape: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    offset: int = 0
    storage: Storage | None = None

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape) if self.shape else 0

    def view(self) -> NDArray[np.generic]:
        """Return a read-only view of the storage, of `shape`; copy it before the file goes.

        Raises:
            ModelError: It repeats elements, so that a copy could be larger than the file.
        """
        if self.storage is None or self.size == 0:
            return np.empty(0, storage_type(self.name, "Tensor"))
        values = self.storage.values
        if self.size > len(values):
            raise ModelError(
                f"expected a {self.name} with at most its storage's {len(values)} elements, "
                f"found {self.size}",
                remedy="write it without expanded tensors",
            )
        return np.lib.stride_tricks.as_strided(
            values[self.offset :],
            self.shape,
            # The stride of an axis of one element is never taken, and may be anything.
            tuple(
                stride * values.itemsize if count > 1 else 0
                for count, stride in zip(self.shape, self.strides, strict=True)
            ),
            writeable=False,
        )


Key: TypeAlias = str | int | float | bool | Table | Node | Function | Storage | Tensor
Value: TypeAlias = Key | None

_ELEMENTS = {
    "Byte": "u1",
    "Char": "i1",
    "Short": "<i2",
    "Int": "<i4",
    "Long": "<i8",
    "Half": "<f2",
    "Float": "<f4",
    "Double": "<f8",
}


def storage_type(name: str, ending: str, long_size: int = 8) -> np.dtype[np.generic] | None:
    """Return the element type of a class of tensors or storages, None if it is none.

    Args:
        name: Of the class: ``torch.FloatTensor``, ``torch.CudaStorage``, ...
        ending: ``Tensor`` or ``Storage``.
        long_size: UInt8Array of a C long on the machine that wrote the file.
    """
    if not (name.startswith("torch.") and name.endswith(ending)):
        return None
    element = name.removeprefix("torch.").removesuffix(ending)
    element = "Float" if element == "Cuda" else element.removeprefix("Cuda")
    if element == "Long":
        return np.dtype(f"<i{long_size}")
    return np.dtype(_ELEMENTS[element]) if element in _ELEMENTS else None


def describe(value: Value) -> str:
    """Name the kind of a value, as Lua does, or its class, for messages."""
    if isinstance(value, Node | Storage | Tensor):
        return value.name
    if value is None:
        return "nil"
    names = {bool: "boolean", str: "string", Table: "table", Function: "function"}
    return names.get(type(value), "number")
