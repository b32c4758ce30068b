# SPDX-License-Identifier: Apache-2.0
"""Running one operation on a device, from NumPy arrays to NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from foveate.arrays import Array
from foveate.kernels import Op
from foveate.runtime.devices import Device, Mirror

Inputs: TypeAlias = Sequence[Array | Sequence[Array] | None]
Spec: TypeAlias = tuple[tuple[int, ...], DTypeLike]
Outputs: TypeAlias = Sequence[Spec | list[Spec]]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of an operation.

    Args:
        op: The operation.
        inputs: Arrays, lists of arrays or None, in the order of its arguments.
        outputs: Shape and dtype of each output; a list for an argument that is a list.
        numbers: Its numbers.
        tolerance: Largest difference from the CPU's result; 0 if every bit is equal.
    """

    op: Op
    inputs: Inputs
    outputs: Outputs
    numbers: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 0.0


class PreparedCall:
    """A call as a program of a device, with the memory of its inputs and outputs.

    Args:
        device: The device.
        call: The call.
        poison: Whether to fill outputs before each run; without, the device itself does so.

    Attributes:
        stream: Stream of the program.
        program: Launches the call, then copies the outputs to the CPU.
    """

    def __init__(self, device: Device, call: Call, *, poison: bool = True) -> None:
        self._device, self._call, self._poison = device, call, poison
        self.stream = device.stream()
        given = [
            item if item is None or isinstance(item, np.ndarray) else [*item]
            for item in call.inputs
        ]
        self._given = [_each(lambda array: _mirror(device, array), item) for item in given]
        self._written = [_each(lambda spec: _empty(device, *spec), item) for item in call.outputs]
        for mirror in _flat(self._given):
            mirror.send(self.stream)
        self.program = device.program([self.stream], self._enqueue, capturable=True)

    def enqueue(self) -> None:
        """Enqueue the call alone, inside of a program."""
        mirrors = [*self._given, *self._written]
        buffers = [_each(lambda mirror: mirror.buffer, item) for item in mirrors]
        self._device.launch(self._call.op, self.stream, *buffers, **self._call.numbers)

    def run(self) -> list[Array]:
        """Launch once.

        Returns:
            All outputs, those of lists too, one after the other.
        """
        written = _flat(self._written)
        if self._poison:
            for mirror in written:
                mirror.array.reshape(-1).view(np.uint8)[:] = 0xA5
                mirror.send(self.stream)
        self.program.launch().synchronize()
        return [mirror.array.copy() for mirror in written]

    @property
    def nbytes(self) -> int:
        """Bytes of all inputs and outputs."""
        return sum(one.array.nbytes for one in _flat([*self._given, *self._written]))

    def _enqueue(self) -> None:
        self.enqueue()
        for mirror in _flat(self._written):
            mirror.fetch(self.stream)


def largest_difference(found: Sequence[Array], expected: Sequence[Array]) -> float:
    """Return the largest absolute difference between the elements of two lists of arrays.

    Equal elements differ by 0, even if they are infinite; NaN differs from everything by infinity.
    """
    return max(_difference(*pair) for pair in zip(found, expected, strict=True))


def _difference(found: Array, expected: Array) -> float:
    one, other = found.astype(np.float64), expected.astype(np.float64)
    differences = np.abs(np.subtract(one, other, out=np.zeros_like(one), where=one != other))
    return float(np.where(np.isnan(differences), np.inf, differences).max(initial=0))


def _mirror(device: Device, array: Array) -> Mirror:
    mirror = device.mirror(array.shape, array.dtype)
    np.copyto(mirror.array, array)
    return mirror


def _empty(device: Device, shape: tuple[int, ...], dtype: DTypeLike) -> Mirror:
    return device.mirror(shape, np.dtype(dtype))


def _each(convert: Any, item: Any) -> Any:
    """Apply a function to an item, or to each of a list; None stays None."""
    if item is None:
        return None
    return [convert(one) for one in item] if isinstance(item, list) else convert(item)


def _flat(mirrors: Sequence[Any]) -> list[Mirror]:
    """Return all mirrors, those of lists too, one after the other."""
    lists = [item if isinstance(item, list) else [item] for item in mirrors if item is not None]
    return [one for item in lists for one in item]
