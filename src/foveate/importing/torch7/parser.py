# SPDX-License-Identifier: Apache-2.0
"""A parser of Torch7's binary format that builds data only, executes nothing and trusts no length.

NOTE: A file is a tree of objects, each with a tag. The body of an object is read by a generator that
asks for one value after another, and a loop keeps the unfinished ones on a list, so that depth costs
neither Python's stack nor a recursion limit. Storages stay in the file, which is mapped into memory.

The layout, little-endian: int32 tag; then for a number a double, for a boolean an int32, for a string
int32 length and bytes; a table has int32 index and int32 count, then keys and values; an object has
int32 index, the strings "V <version>" and class (old files: the class only), then its body, which for
most classes is one table. An index that was seen before stands for that object. A function has an
index (the oldest kind has none), a string of bytecode, which is skipped, and a table of upvalues.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Generator

import numpy as np

from foveate.importing.torch7.values import (
    MAX_DIMENSIONS,
    Function,
    Node,
    Storage,
    Table,
    Tensor,
    Value,
    describe,
    storage_type,
)

NIL, NUMBER, STRING, TABLE, OBJECT, BOOLEAN, OLD_FUNCTION, LEGACY_FUNCTION, FUNCTION = range(9)

MAX_DEPTH = 1000
"""Objects within objects; the released models have about 30."""

SMALLEST_ENTRY = 12
"""UInt8Array of the smallest entry of a table: a boolean key and a tag."""

Body = Generator[None, Value, None]


class CorruptError(Exception):
    """What a file holds is against the format; the text says what was expected and found."""


class Torch7Parser:
    """Parse the content of a file, once.

    Args:
        content: All bytes.
        long_size: UInt8Array of a C long on the machine that wrote the file.
    """

    def __init__(self, content: mmap.mmap, long_size: int):
        self._content = content
        self._position = 0
        self._long_size = long_size
        self._objects: dict[int, Value] = {}
        self._unfinished: list[tuple[Body, Value]] = []

    def parse(self) -> Value:
        """Return the one object of the file.

        Raises:
            CorruptError: Something is against the format.
        """
        while True:
            finished, value = self._start()
            while finished:
                if not self._unfinished:
                    if self._remaining:
                        raise CorruptError(
                            f"expected the end at byte {self._position}, "
                            f"found {self._remaining} bytes more"
                        )
                    return value
                body, owner = self._unfinished[-1]
                try:
                    body.send(value)
                    finished = False
                except StopIteration:
                    self._unfinished.pop()
                    value = owner

    def _start(self) -> tuple[bool, Value]:
        """Read a whole value, or begin an object whose body asks for more."""
        at, tag = self._position, self._int()
        if tag == NIL:
            return True, None
        if tag == NUMBER:
            return True, self._number()
        if tag == STRING:
            return True, self._string()
        if tag == BOOLEAN:
            return True, self._int() == 1
        if tag == OLD_FUNCTION:
            return self._begin(Function(), self._function())
        if tag not in {TABLE, OBJECT, LEGACY_FUNCTION, FUNCTION}:
            raise CorruptError(f"expected a tag from 0 to 8 at byte {at}, found {tag}")
        return self._start_indexed(tag, at)

    def _start_indexed(self, tag: int, at: int) -> tuple[bool, Value]:
        index = self._int()
        kind = {TABLE: (Table,), OBJECT: (Node, Storage, Tensor)}.get(tag, (Function,))
        if index in self._objects:
            known = self._objects[index]
            if not isinstance(known, kind):
                raise CorruptError(
                    f"expected a {kind[0].__name__.lower()} as object {index} at byte {at}, "
                    f"found a {type(known).__name__.lower()}"
                )
            return True, known
        if tag == TABLE:
            table = Table()
            self._objects[index] = table
            return self._begin(table, self._table(table))
        if tag == OBJECT:
            return self._start_object(index)
        function = Function()
        self._objects[index] = function
        return self._begin(function, self._function())

    def _start_object(self, index: int) -> tuple[bool, Value]:
        name, version = self._string(), 0
        if found := re.fullmatch(r"V (\d{1,9})", name):
            name, version = self._string(), int(found[1])
        if storage_type(name, "Storage") is not None:
            self._objects[index] = storage = self._storage(name)
            return True, storage
        if storage_type(name, "Tensor") is not None:
            tensor = Tensor(name)
            self._objects[index] = tensor
            return self._begin(tensor, self._tensor(tensor))
        if not re.fullmatch(r"[A-Za-z_][\w.]*", name):
            raise CorruptError(f"expected the name of a class, found {name[:40]!r}")
        node = Node(name, version)
        self._objects[index] = node
        return self._begin(node, self._node(node))

    def _begin(self, owner: Value, body: Body) -> tuple[bool, Value]:
        if len(self._unfinished) == MAX_DEPTH:
            raise CorruptError(f"expected objects at most {MAX_DEPTH} deep, found more")
        try:
            next(body)
        except StopIteration:
            return True, owner
        self._unfinished.append((body, owner))
        return False, None

    def _table(self, table: Table) -> Body:
        at, count = self._position, self._int()
        if not 0 <= count * SMALLEST_ENTRY <= self._remaining:
            raise CorruptError(
                f"expected a table of at most {self._remaining // SMALLEST_ENTRY} entries "
                f"at byte {at}, found {count}"
            )
        for _ in range(count):
            key = yield
            if key is None or key in table.entries:
                raise CorruptError(
                    f"expected a new key before byte {self._position}, "
                    f"found {'nil' if key is None else 'one twice'}"
                )
            value = yield
            if value is not None:
                table.entries[key] = value

    def _node(self, node: Node) -> Body:
        if node.name == "nn.DataParallelTable" and node.version >= 2:
            yield  # the GPUs that it was on, so that a reader can pick its own first
        fields = yield
        if not isinstance(fields, Table):
            raise CorruptError(
                f"expected a table of fields of {node.name} before byte {self._position}, "
                f"found {describe(fields)}"
            )
        node.fields = fields

    def _function(self) -> Body:
        self._skip(self._int())
        yield

    def _storage(self, name: str) -> Storage:
        element = storage_type(name, "Storage", self._long_size)
        assert element is not None
        count = self._long()
        start = self._skip(count * element.itemsize)
        return Storage(name, np.frombuffer(self._content, element, count, start))

    def _tensor(self, tensor: Tensor) -> Body:
        at, dimensions = self._position, self._int()
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            raise CorruptError(
                f"expected at most {MAX_DIMENSIONS} dimensions at byte {at}, found {dimensions}"
            )
        tensor.shape = tuple(self._long() for _ in range(dimensions))
        tensor.strides = tuple(self._long() for _ in range(dimensions))
        tensor.offset = self._long() - 1
        storage = yield
        tensor.storage = self._checked_storage(tensor, storage)

    def _checked_storage(self, tensor: Tensor, storage: Value) -> Storage | None:
        expected = f"{tensor.name.removesuffix('Tensor')}Storage"
        shape, strides = tensor.shape, tensor.strides
        if min((*shape, *strides, 0)) < 0 or math.prod(shape) > len(self._content):
            raise CorruptError(f"expected a tensor within the file, found shape {shape}")
        if tensor.size == 0 and storage is None:
            return None
        if not isinstance(storage, Storage) or storage.name != expected:
            raise CorruptError(
                f"expected a {expected} behind a {tensor.name}, found {describe(storage)}"
            )
        last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if tensor.size and not 0 <= tensor.offset <= last < len(storage.values):
            raise CorruptError(
                f"expected a tensor within the {len(storage.values)} elements of its storage, "
                f"found elements {tensor.offset} to {last}"
            )
        return storage

    @property
    def _remaining(self) -> int:
        return len(self._content) - self._position

    def _skip(self, count: int) -> int:
        """Go on by `count` bytes; return where they begin."""
        start = self._position
        if not 0 <= count <= self._remaining:
            raise CorruptError(
                f"expected at most {self._remaining} bytes more at byte {start}, found {count}"
            )
        self._position += count
        return start

    def _int(self) -> int:
        value: int = struct.unpack_from("<i", self._content, self._skip(4))[0]
        return value

    def _long(self) -> int:
        code = "<q" if self._long_size == 8 else "<i"
        value: int = struct.unpack_from(code, self._content, self._skip(self._long_size))[0]
        return value

    def _number(self) -> int | float:
        value: float = struct.unpack_from("<d", self._content, self._skip(8))[0]
        return int(value) if value.is_integer() else value

    def _string(self) -> str:
        count = self._int()
        start = self._skip(count)
        return self._content[start : start + count].decode("utf-8", "surrogateescape")
