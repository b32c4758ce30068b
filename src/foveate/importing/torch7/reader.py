# SPDX-License-Identifier: Apache-2.0
"""A reader of the binary format of Torch7 that builds data, executes nothing and trusts no length.

A file is one object, little-endian: an int32 tag, then

- for a number a double, for a boolean an int32, for a string an int32 length and bytes;
- for a table an int32 index and an int32 count, then keys and values;
- for an object an int32 index, the strings "V <version>" and class (in old files the class alone),
  and its body, which for most classes is one table;
- for a function an int32 index (the oldest kind has none), a string of bytecode and a table of
  upvalues.

An index that was read before stands for that object.
"""

import math
import mmap
import os
import re
import struct
from collections.abc import Generator
from pathlib import Path

import numpy as np

from foveate.errors import ModelError
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
from foveate.system.regular_files import open_regular

NIL, NUMBER, STRING, TABLE, OBJECT, BOOLEAN, OLD_FUNCTION, LEGACY_FUNCTION, FUNCTION = range(9)

# The released models nest objects about 30 deep.
MAX_DEPTH = 1000

# A boolean key (8 bytes) and a tag: the smallest entry of a table.
SMALLEST_ENTRY = 12

OTHER_FORMATS = (
    (b"PK\x03\x04", "a PyTorch file", "use `foveate import-torch`"),
    (b"\x80", "a pickle", "use `foveate import-torch` if it is a PyTorch file"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x89HDF", "an HDF5 file", "use the .t7 file itself"),
    (b"<", "a web page", "download the file again"),
    *((f"{tag}\n".encode(), "an ASCII Torch7 file", "save it as binary") for tag in range(9)),
)

# The body of an object is a generator that receives one value after another. The unfinished bodies
# are in a list, so that depth uses neither the stack of Python nor its recursion limit.
Body = Generator[None, Value, None]


class CorruptError(Exception):
    """The content contradicts the format; the message has the expected and the found value."""

    def __init__(self, expected: str, found: object) -> None:
        super().__init__(f"expected {expected}, found {found}")


def read_torch7(path: Path) -> Value:
    """Read a binary file that ``torch.save`` of Torch7 wrote on a little-endian machine.

    Args:
        path: File to read; it must not change while its tensors are in use.

    Returns:
        The object that was saved. Tensors are views of the file, which is mapped into memory, so
        that weights are loaded when they are copied.

    Raises:
        ModelError: The file cannot be read, is of another format, or is damaged.
    """
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size == 0:
                what = "expected a Torch7 file, found an empty one"
                raise ModelError(what, file=path, remedy="download it again")
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ModelError(
            f"the file cannot be read ({error.strerror})", file=path, remedy="check its name"
        ) from error
    for start, name, remedy in OTHER_FORMATS:
        if content[: len(start)] == start:
            what = f"expected a binary Torch7 file, found {name}"
            raise ModelError(what, file=path, remedy=remedy)
    try:
        return _parse_either(content)
    except CorruptError as error:
        raise ModelError(
            str(error),
            file=path,
            remedy="the file is damaged or not in Torch7 format: download it again",
        ) from error


def _parse_either(content: mmap.mmap) -> Value:
    # A C long has 8 bytes, or 4 on a 32-bit machine and on Windows. No file names its size, but the
    # wrong one leads to an offset or a length beyond the file.
    try:
        return _Parser(content, long_size=8).parse()
    except CorruptError as error:
        try:
            return _Parser(content, long_size=4).parse()
        except CorruptError:
            raise error from None


class _Parser:
    """A parser of the content of one file; ``long_size`` is the number of bytes of a C long."""

    def __init__(self, content: mmap.mmap, long_size: int):
        self._content = content
        self._position = 0
        self._long_size = long_size
        self._objects: dict[int, Value] = {}

    def parse(self) -> Value:
        """Return the object of the file, or raise ``CorruptError``."""
        unfinished: list[tuple[Value, Body]] = []
        while True:
            value, body = self._next()
            if body is not None:
                if len(unfinished) == MAX_DEPTH:
                    raise CorruptError(f"objects at most {MAX_DEPTH} deep", "more")
                unfinished.append((value, body))
                value = None  # starts the generator
            while unfinished:
                owner, body = unfinished[-1]
                try:
                    body.send(value)
                    break
                except StopIteration:
                    unfinished.pop()
                    value = owner
            else:
                if self._remaining:
                    raise CorruptError(
                        f"the end at byte {self._position}", f"{self._remaining} bytes more"
                    )
                return value

    def _next(self) -> tuple[Value, Body | None]:
        """Read a whole value, or begin an object and return it with its body."""
        at, tag = self._position, self._int()
        if tag in {NIL, NUMBER, STRING, BOOLEAN}:
            return self._plain(tag), None
        if tag == OLD_FUNCTION:
            return Function(), self._function()
        if tag not in {TABLE, OBJECT, LEGACY_FUNCTION, FUNCTION}:
            raise CorruptError(f"a tag from 0 to 8 at byte {at}", tag)
        index = self._int()
        kind = {TABLE: (Table,), OBJECT: (Node, Storage, Tensor)}.get(tag, (Function,))
        if index in self._objects:
            known = self._objects[index]
            if not isinstance(known, kind):
                raise CorruptError(
                    f"a {kind[0].__name__.lower()} as object {index} at byte {at}",
                    f"a {type(known).__name__.lower()}",
                )
            return known, None
        # Known before its body is read, since the body may refer to it.
        self._objects[index], body = self._begin(tag)
        return self._objects[index], body

    def _begin(self, tag: int) -> tuple[Value, Body | None]:
        if tag == TABLE:
            table = Table()
            return table, self._table(table)
        if tag != OBJECT:
            return Function(), self._function()
        name, version = self._string(), 0
        if found := re.fullmatch(r"V (\d{1,9})", name):
            name, version = self._string(), int(found[1])
        if storage_type(name, "Storage") is not None:
            return self._storage(name), None
        if storage_type(name, "Tensor") is not None:
            tensor = Tensor(name)
            return tensor, self._tensor(tensor)
        if not re.fullmatch(r"[A-Za-z_][\w.]*", name):
            raise CorruptError("the name of a class", f"{name[:40]!r}")
        node = Node(name, version)
        return node, self._node(node)

    def _table(self, table: Table) -> Body:
        at, count = self._position, self._int()
        if not 0 <= count * SMALLEST_ENTRY <= self._remaining:
            raise CorruptError(
                f"a table of at most {self._remaining // SMALLEST_ENTRY} entries at byte {at}",
                count,
            )
        for _ in range(count):
            key = yield
            if key is None or key in table.entries:
                raise CorruptError(
                    f"a new key before byte {self._position}", "nil" if key is None else "one twice"
                )
            value = yield
            if value is not None:
                table.entries[key] = value

    def _node(self, node: Node) -> Body:
        if node.name == "nn.DataParallelTable" and node.version >= 2:
            yield  # the GPUs of the copies, so that a reader can create its own first
        fields = yield
        if not isinstance(fields, Table):
            raise CorruptError(
                f"a table of fields of {node.name} before byte {self._position}", describe(fields)
            )
        node.fields = fields

    def _function(self) -> Body:
        self._skip(self._int())  # bytecode
        yield  # upvalues, which later objects may refer to

    def _storage(self, name: str) -> Storage:
        element = storage_type(name, "Storage", self._long_size)
        assert element is not None
        count = self._long()
        start = self._skip(count * element.itemsize)
        return Storage(name, np.frombuffer(self._content, element, count, start))

    def _tensor(self, tensor: Tensor) -> Body:
        at, dimensions = self._position, self._int()
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            raise CorruptError(f"at most {MAX_DIMENSIONS} dimensions at byte {at}", dimensions)
        tensor.shape = tuple(self._long() for _ in range(dimensions))
        tensor.strides = tuple(self._long() for _ in range(dimensions))
        tensor.offset = self._long() - 1  # Lua counts from 1
        storage = yield
        tensor.storage = self._checked_storage(tensor, storage)

    def _checked_storage(self, tensor: Tensor, storage: Value) -> Storage | None:
        expected = f"{tensor.name.removesuffix('Tensor')}Storage"
        shape, strides = tensor.shape, tensor.strides
        if min((*shape, *strides, 0)) < 0 or math.prod(shape) > len(self._content):
            raise CorruptError("a tensor within the file", f"shape {shape}")
        if tensor.size == 0 and storage is None:
            return None
        if not isinstance(storage, Storage) or storage.name != expected:
            raise CorruptError(f"a {expected} behind a {tensor.name}", describe(storage))
        last = tensor.offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if tensor.size and not 0 <= tensor.offset <= last < len(storage.values):
            raise CorruptError(
                f"a tensor within the {len(storage.values)} elements of its storage",
                f"elements {tensor.offset} to {last}",
            )
        return storage

    @property
    def _remaining(self) -> int:
        return len(self._content) - self._position

    def _skip(self, count: int) -> int:
        """Advance by ``count`` bytes; return the position of the first of them."""
        start = self._position
        if not 0 <= count <= self._remaining:
            raise CorruptError(f"at most {self._remaining} bytes more at byte {start}", count)
        self._position += count
        return start

    def _int(self) -> int:
        value: int = struct.unpack_from("<i", self._content, self._skip(4))[0]
        return value

    def _long(self) -> int:
        code = "<q" if self._long_size == 8 else "<i"
        value: int = struct.unpack_from(code, self._content, self._skip(self._long_size))[0]
        return value

    def _plain(self, tag: int) -> Value:
        if tag == NUMBER:
            value: float = struct.unpack_from("<d", self._content, self._skip(8))[0]
            return int(value) if value.is_integer() else value
        if tag == STRING:
            return self._string()
        return self._int() == 1 if tag == BOOLEAN else None

    def _string(self) -> str:
        count = self._int()
        start = self._skip(count)
        # Lua strings are bytes; surrogates keep those that are not UTF-8.
        return self._content[start : start + count].decode("utf-8", "surrogateescape")
