# SPDX-License-Identifier: Apache-2.0
"""Memory of a device that exists by its address alone, to see what plans would launch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foveate.kernels.plans import FLOAT, Steps

HALF = np.dtype(np.float16)


@dataclass(frozen=True)
class Memory:
    """An array of a device that exists by its address alone."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any] = FLOAT
    address: int = 0x1000
    content: list[Any] = field(default_factory=list)


class Scratch:
    """Remembers what was asked of it."""

    def upload(self, array: np.ndarray) -> Memory:
        return Memory(array.shape, array.dtype, content=array.tolist())

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Memory:
        return Memory(shape, dtype, address=-1)


def arrays(*names: str, shape: tuple[int, ...] = (7, 4)) -> dict[str, Memory]:
    return {name: Memory(shape, address=0x100 * (1 + i)) for i, name in enumerate(names)}


def names_of(steps: Steps) -> list[str]:
    return [name for name, _ in steps]
