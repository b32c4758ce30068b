# SPDX-License-Identifier: Apache-2.0
"""Grid, block and dynamic shared memory of each kernel, as functions of the sizes of a launch.

Each takes the integers among a kernel's parameters by name, those of a few sizes that only the grid
depends on, and ``lanes``, the elements that one access moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


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


def roi_max_pool(
    *, roi_count: int, rows: int, columns: int, channels: int, lanes: int, **_: int
) -> LaunchShape:
    """Every ROI has blocks of its own; a thread makes ``lanes`` channels of one bin."""
    items = rows * columns * (channels // lanes)
    return _linear(roi_count * _ceil_div(items, 128), 128)


def square_table(
    *, batch: int, height: int, width: int, channels: int, lanes: int, **_: int
) -> LaunchShape:
    """A thread makes ``lanes`` channels of one pixel."""
    return _linear(_ceil_div(batch * height * width * channels // lanes, 128), 128)


def paste_windows(
    *, windows: int, size: int, height: int, stage_rows: int, **_: int
) -> LaunchShape:
    """A block makes 64 rows of the image for one window; ``stage_rows``: see below."""
    grid = (_ceil_div(height, 64), windows, 1)
    return LaunchShape(grid, (256, 1, 1), 4 * size * stage_rows)


def paste_stage_rows(size: int) -> int:
    """Return how many rows of logits of ``size`` columns a block keeps in shared memory."""
    return 34 if size <= 352 else 0


def paste_boxes(*, windows: int, **_: int) -> LaunchShape:
    """A thread makes one box."""
    return _linear(_ceil_div(windows, 128), 128)


def upsample_map(
    *,
    planes: int,
    width: int,
    out_height: int,
    out_width: int,
    band_rows: int,
    stage_rows: int,
    **_: int,
) -> LaunchShape:
    """A block makes ``band_rows`` rows of one plane; the launcher chooses these and ``stage_rows``."""
    shared_bytes = 4 * (stage_rows * width + 2 * out_width + 2 * band_rows)
    return _linear(planes * _ceil_div(out_height, band_rows), 128, shared_bytes)


def gather_windows(*, count: int, channels: int, size: int, lanes: int, **_: int) -> LaunchShape:
    """A thread moves ``lanes`` elements of one patch."""
    blocks = _ceil_div(channels * size * size // lanes, 256)
    return LaunchShape((blocks, count, 1), (256, 1, 1))


def nms_rank(*, capacity: int, **_: int) -> LaunchShape:
    """A thread ranks one box."""
    return _linear(_ceil_div(capacity, 256), 256)


def nms_masks(*, capacity: int, **_: int) -> LaunchShape:
    """A thread makes one word of one row."""
    grid = (_ceil_div(capacity, 32), _ceil_div(capacity, 64), 1)
    return LaunchShape(grid, (64, 1, 1))


def nms_scan(*, capacity: int, **_: int) -> LaunchShape:
    """One block walks through the order."""
    return _linear(1, 256, 4 * _ceil_div(capacity, 32))


def select_rank(*, cells: int, **_: int) -> LaunchShape:
    """A thread ranks one cell."""
    return _linear(_ceil_div(cells, 256), 256)


def select_scan(*, limit: int, **_: int) -> LaunchShape:
    """One block walks through the order."""
    return _linear(1, 256, 20 * limit)


def decode_boxes(*, rows: int, classes: int, **_: int) -> LaunchShape:
    """A thread decodes one box."""
    return _linear(_ceil_div(rows * classes, 128), 128)


def finish_candidates(*, rows: int, classes: int, **_: int) -> LaunchShape:
    """A thread makes one candidate."""
    return _linear(_ceil_div(rows * classes, 128), 128)


def finish_gather(*, limit: int, **_: int) -> LaunchShape:
    """A thread gathers one detection."""
    return _linear(_ceil_div(limit, 128), 128)


def take_boxes(*, count: int, **_: int) -> LaunchShape:
    """A thread takes one box."""
    return _linear(_ceil_div(count, 128), 128)


def pyramid_place(*, blocks: int, **_: int) -> LaunchShape:
    """A block makes a tile of 64 x 64 pixels of a canvas; ``blocks`` counts those of all levels."""
    return _linear(blocks, 256, 23808)


def pyramid_resize(*, height: int, width: int, **_: int) -> LaunchShape:
    """A block makes a tile of 64 x 64 pixels."""
    return _linear(_ceil_div(height, 64) * _ceil_div(width, 64), 256, 23808)


def _linear(blocks: int, threads: int, shared_bytes: int = 0) -> LaunchShape:
    return LaunchShape((blocks, 1, 1), (threads, 1, 1), shared_bytes)


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
