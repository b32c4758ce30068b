# SPDX-License-Identifier: Apache-2.0
"""Grid, block and dynamic shared memory of each kernel, as functions of the sizes of a launch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["LaunchShape", "Shape", "roi_max_pool", "square_table"]


@dataclass(frozen=True)
class LaunchShape:
    """What a launch needs beside its arguments.

    Args:
        grid: Blocks along x, y and z.
        block: Threads along x, y and z.
        shared_bytes: Dynamic shared memory of a block.
    """

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int = 0


Shape: TypeAlias = Callable[..., LaunchShape]
"""Takes the integers of a kernel's parameters by name, and ``lanes``; ignores those it needs not."""


def roi_max_pool(
    *, roi_count: int, rows: int, columns: int, channels: int, lanes: int, **_: object
) -> LaunchShape:
    """Every ROI has blocks of its own; a thread makes ``lanes`` channels of one bin."""
    items = rows * columns * (channels // lanes)
    return _linear(roi_count * _ceil_div(items, 128), 128)


def square_table(
    *, batch: int, height: int, width: int, channels: int, lanes: int, **_: object
) -> LaunchShape:
    """A thread makes ``lanes`` channels of one pixel."""
    return _linear(_ceil_div(batch * height * width * (channels // lanes), 128), 128)


def _linear(blocks: int, threads: int, shared_bytes: int = 0) -> LaunchShape:
    return LaunchShape((blocks, 1, 1), (threads, 1, 1), shared_bytes)


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
