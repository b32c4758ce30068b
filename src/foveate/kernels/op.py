# SPDX-License-Identifier: Apache-2.0
"""The declaration of an operation and of its launches on a GPU.

An ``Op`` names a source of device code and a generator of :class:`Launch` values. A launch is
complete: kernel, grid, block, shared memory, and arguments that carry their width. Everything that
executes kernels, on a GPU or in a test, takes them from this one place.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Protocol, TypeAlias

import numpy as np

from foveate.arrays import Array
from foveate.errors import OptionError


class DeviceArray(Protocol):
    """A dense array in the memory of a device."""

    @property
    def address(self) -> int:
        """Address of the first byte."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the elements."""


class Memory(Protocol):
    """Memory for the launches of one call, valid until the last of them is done.

    The implementation decides where the memory comes from and who owns it. A generator of launches
    requests the same pieces in the same order whenever it is called with the same shapes.
    """

    def empty(self, shape: tuple[int, ...], dtype: type[np.generic]) -> DeviceArray:
        """Return an array whose content is undefined."""

    def upload(self, array: Array) -> DeviceArray:
        """Return a copy of a small array, complete before the launches that follow."""


# A Python number has no width, so numbers are NumPy scalars.
Argument: TypeAlias = DeviceArray | np.generic | None


@dataclass(frozen=True)
class Launch:
    """One launch of one kernel.

    Args:
        kernel: Name of the ``extern "C"`` entry point.
        grid: Blocks along x, or along x and y.
        block: Threads per block.
        args: Arguments of the kernel: arrays, None for a null pointer, and NumPy scalars of the
            width that the kernel takes.
        shared_bytes: Dynamic shared memory per block.
    """

    kernel: str
    _: KW_ONLY
    grid: int | tuple[int, int]
    block: int
    args: tuple[Argument, ...]
    shared_bytes: int = 0

    @property
    def blocks(self) -> tuple[int, int, int]:
        """Blocks along x, y and z."""
        x, y = (self.grid, 1) if isinstance(self.grid, int) else self.grid
        return (x, y, 1)

    @property
    def numbers(self) -> tuple[np.generic, ...]:
        """The arguments with each array replaced by its address."""
        return tuple(
            argument
            if isinstance(argument, np.generic)
            else np.uint64(0 if argument is None else argument.address)
            for argument in self.args
        )


Launches: TypeAlias = Iterator[Launch]


@dataclass(frozen=True)
class Op:
    """An operation that a device can launch.

    ``cpu`` and ``launches`` take the same arguments: inputs and outputs as buffers that the caller
    allocated, then plain numbers as keywords. ``launches`` takes a :class:`Memory` before them.
    Neither keeps memory after the call or returns a value.

    Args:
        name: Name in messages and profiles.
        cpu: Version for NumPy memory.
        outputs: Names of the arguments that are written.
        source: Device code that defines the kernels, relative to ``kernels/``.
        launches: Generator of the launches in their order; None if there are no kernels.
    """

    name: str
    _: KW_ONLY
    cpu: Callable[..., None]
    outputs: tuple[str, ...]
    source: str = ""
    launches: Callable[..., Launches] | None = None

    def __post_init__(self) -> None:
        # A misspelled name would otherwise go unnoticed until something reads the outputs.
        unknown = set(self.outputs) - set(inspect.signature(self.cpu).parameters)
        assert not unknown, f"{self.name}: no arguments {unknown}"


def ceil_div(numerator: int, denominator: int) -> int:
    """Return the quotient, rounded up."""
    return -(-numerator // denominator)  # floor division rounds to minus infinity


def int32(*numbers: int) -> tuple[np.int32, ...]:
    """Return integers as arguments of 32 bits."""
    return tuple(np.int32(number) for number in numbers)


def float64(*numbers: float) -> tuple[np.float64, ...]:
    """Return numbers as arguments of 64 bits."""
    return tuple(np.float64(number) for number in numbers)


def element(array: DeviceArray) -> str:
    """Return the element type as it appears in the name of a kernel: ``f32`` or ``f16``."""
    # The kernels exist for these two; any other type is a mistake of the caller.
    return {2: "f16", 4: "f32"}[array.dtype.itemsize]


def addresses(arrays: Sequence[DeviceArray]) -> Array:
    """Return the addresses of arrays, (N,) uint64."""
    return np.array([array.address for array in arrays], np.uint64)


def require_at_most(limit: int, found: int, what: str) -> None:
    """Check a size against a limit of the kernels.

    Raises:
        OptionError: ``found`` is larger than ``limit``.
    """
    if found > limit:
        raise OptionError(
            f"the GPU kernels take at most {limit:,} {what}, found {found:,}",
            remedy="use a smaller image or top_k, or run on the CPU: device='cpu'",
        )
