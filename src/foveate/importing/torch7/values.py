# SPDX-License-Identifier: Apache-2.0
"""The values of a Torch7 file: tables, nodes, and tensors over shared storages. Data only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from foveate.errors import ModelError

MAX_DIMENSIONS = 16


# As in Lua, two tables are equal if they are the same object: hence no comparison of contents.
@dataclass(eq=False)
class Table:
    """A Lua table.

    Args:
        entries: Values by key, in the order of the file. A whole number is an ``int``.
    """

    entries: dict[Key, Value] = field(default_factory=dict)

    def __getitem__(self, key: Key) -> Value:
        """Return the value of a key, or ``None`` (nil in Lua) if there is none."""
        return self.entries.get(key)

    def sequence(self) -> list[Value]:
        """Return the values of the keys 1, 2, ... up to the first that is absent."""
        values: list[Value] = []
        while (value := self.entries.get(len(values) + 1)) is not None:
            values.append(value)
        return values


@dataclass(eq=False)
class Node:
    """An object of a Torch class, as the name of the class and its fields.

    Args:
        name: Name of the class, such as ``nn.Linear``.
        version: Version of the class, 0 in files that are older than versions.
        fields: Fields of the object.
    """

    name: str
    version: int = 0
    fields: Table = field(default_factory=Table)

    def __getitem__(self, key: Key) -> Value:
        """Return a field, or ``None`` if there is none."""
        return self.fields[key]


@dataclass(eq=False)
class Function:
    """A Lua function; its bytecode is skipped."""


@dataclass(eq=False)
class Storage:
    """The memory of tensors.

    Args:
        name: Name of the class, such as ``torch.CudaStorage``.
        values: Elements, (n,), a read-only view of the mapped file.
    """

    name: str
    values: NDArray[np.generic]


@dataclass(eq=False)
class Tensor:
    """A strided view of a storage, which other tensors may share.

    Args:
        name: Name of the class, such as ``torch.FloatTensor``.
        shape: Shape, empty for a tensor without elements.
        strides: Strides of the axes in elements.
        offset: Index of the first element in the storage, from 0.
        storage: Storage, or ``None`` for a tensor without elements.
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
        """Return the elements as a read-only view of the mapped file, of shape ``shape``.

        Raises:
            ModelError: The tensor repeats elements.
        """
        if self.storage is None or self.size == 0:
            return np.empty(0, storage_type(self.name, "Tensor"))
        values = self.storage.values
        # A copy of repeated elements could be of any size, whatever that of the file.
        if self.size > len(values):
            raise ModelError(
                f"expected a {self.name} with at most the {len(values)} elements of its storage, "
                f"found {self.size}",
                remedy="write it without expanded tensors",
            )
        # The stride of an axis of one element is never taken, and may be any number.
        strides = (
            stride * values.itemsize if count > 1 else 0
            for count, stride in zip(self.shape, self.strides, strict=True)
        )
        return np.lib.stride_tricks.as_strided(
            values[self.offset :], self.shape, tuple(strides), writeable=False
        )


Key: TypeAlias = str | int | float | bool | Table | Node | Function | Storage | Tensor
Value: TypeAlias = Key | None

_ELEMENTS = {
    "Byte": "u1",
    "Char": "i1",
    "Short": "<i2",
    "Int": "<i4",
    "Half": "<f2",
    "Float": "<f4",
    "Double": "<f8",
}


def storage_type(name: str, ending: str, long_size: int = 8) -> np.dtype[np.generic] | None:
    """Return the element type of a class with this ending, or ``None`` for other classes.

    The class is one such as ``torch.FloatTensor`` or ``torch.CudaStorage``; ``long_size`` is the
    number of bytes of a C long on the machine that wrote the file.
    """
    if not (name.startswith("torch.") and name.endswith(ending)):
        return None
    element = name.removeprefix("torch.").removesuffix(ending)
    # torch.CudaTensor is the one class of a GPU without an element in its name.
    element = "Float" if element == "Cuda" else element.removeprefix("Cuda")
    if element == "Long":
        return np.dtype(f"<i{long_size}")
    return np.dtype(_ELEMENTS[element]) if element in _ELEMENTS else None


def describe(value: Value) -> str:
    """Name the class of a value, or its type as Lua does, for error messages."""
    if isinstance(value, Node | Storage | Tensor):
        return value.name
    if value is None:
        return "nil"
    names = {bool: "boolean", str: "string", Table: "table", Function: "function"}
    return names.get(type(value), "number")


def damaged(expected: str, found: object) -> ModelError:
    """Return the error for a file whose content contradicts itself."""
    remedy = "the file is damaged: download it again"
    return ModelError(f"expected {expected}, found {found}", remedy=remedy)


def unknown(expected: str, found: object) -> ModelError:
    """Return the error for a file with a network other than those of the original code."""
    remedy = "import a DeepMask, SharpMask, MultiPathNet or Fast R-CNN of the original code"
    return ModelError(f"expected {expected}, found {found}", remedy=remedy)
