# SPDX-License-Identifier: Apache-2.0
"""What the plans of the operations are made of.

An operation's ``plan.py`` says which kernels a device launches for a call of it. A plan takes the
arguments of the operation's host version as arrays of the device, and yields steps: the name of a
kernel, and its arguments by name. What a kernel needs beside them, small tables and room for
intermediate results, it asks of a :class:`Scratch`. The launchers in C (``launch.cu``) do the same
for programs that link them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from foveate.kernels.status import check_status

if TYPE_CHECKING:
    from foveate.arrays import Array

INT, UINT, FLOAT = np.dtype(np.int32), np.dtype(np.uint32), np.dtype(np.float32)

MOST_CELLS = 65536
"""Cells or boxes that are ordered at once."""

MOST_WINDOWS = 2048
"""Windows that are selected."""

LONGEST_SIDE = 16384
"""Of an image, in pixels."""

_TOO_LARGE = -4  # the launchers' status


class DeviceArray(Protocol):
    """A dense array in memory of a device."""

    @property
    def address(self) -> int:
        """Address of its first byte."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Kind of the elements."""


class Scratch(Protocol):
    """Memory that lives until the launches that were asked with it are done."""

    def upload(self, array: Array) -> DeviceArray:
        """Return a copy of a small array."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> DeviceArray:
        """Return memory whose content is undefined."""


Steps: TypeAlias = Iterator[tuple[str, dict[str, Any]]]
"""Names of kernels, without ``foveate_``, and their arguments by name: arrays, None, numbers."""


def element(array: DeviceArray) -> str:
    """Return the part of a kernel's name that says its element type."""
    return {2: "f16", 4: "f32"}[array.dtype.itemsize]


def addresses(arrays: Sequence[DeviceArray]) -> Array:
    """Return the addresses of arrays, (N,) uint64."""
    return np.array([array.address for array in arrays], np.uint64)


def check_length(op: str, length: int, most: int) -> None:
    """Refuse what one launch cannot hold.

    Raises:
        OptionError: ``length`` is larger than ``most``.
    """
    if length > most:
        check_status(_TOO_LARGE, op)
