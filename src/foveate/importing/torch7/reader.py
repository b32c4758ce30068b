# SPDX-License-Identifier: Apache-2.0
"""Reading a Torch7 file: mapped into memory, so that weights are loaded when they are copied."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from foveate.errors import ModelError
from foveate.importing.torch7.parser import CorruptError, Torch7Parser
from foveate.importing.torch7.values import Value
from foveate.system.files import open_regular

OTHER_FORMATS = (
    (b"PK\x03\x04", "a PyTorch file", "use `foveate import-torch`"),
    (b"\x80", "a pickle", "use `foveate import-torch` if it is a PyTorch file"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x89HDF", "an HDF5 file", "give the .t7 file itself"),
    (b"<", "a web page", "download the file again"),
    *((f"{tag}\n".encode(), "an ASCII Torch7 file", "save it as binary") for tag in range(9)),
)


def read_torch7(path: Path) -> Value:
    """Read a file that `torch.save` of Torch7 wrote, in binary, on a little-endian machine.

    Args:
        path: The file; it must stay as it is while tensors of it are looked at.

    Returns:
        The object that was saved. Tensors are views of the file, mapped into memory.

    Raises:
        ModelError: The file cannot be read, is of another format, or is damaged.
    """
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise ModelError(
                    "expected a Torch7 file, found an empty one",
                    file=path,
                    remedy="download it again",
                )
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ModelError(
            f"the file cannot be read ({error.strerror})", file=path, remedy="check its name"
        ) from error
    for start, name, remedy in OTHER_FORMATS:
        if content[: len(start)] == start:
            raise ModelError(
                f"expected a binary Torch7 file, found {name}", file=path, remedy=remedy
            )
    try:
        return _read_either(content)
    except CorruptError as error:
        raise ModelError(
            str(error), file=path, remedy="the file is damaged or no Torch7 file: get it again"
        ) from error


def _read_either(content: mmap.mmap) -> Value:
    """Read with a long of 8 bytes or, from a 32-bit machine or Windows, of 4.

    Files do not say which; the wrong one ends in an offset or a length beyond the file.
    """
    try:
        return Torch7Parser(content, long_size=8).parse()
    except CorruptError as error:
        try:
            return Torch7Parser(content, long_size=4).parse()
        except CorruptError:
            raise error from None
