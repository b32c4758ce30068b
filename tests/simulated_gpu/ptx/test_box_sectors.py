# SPDX-License-Identifier: Apache-2.0
"""The traffic of the operations on boxes, at the sizes of an image of COCO.

A box is half a sector: what is gathered from any place costs up to two sectors for each of its own,
which no kernel can change. Everything else moves at most a quarter more than it must.
"""

from __future__ import annotations

import numpy as np
import pytest
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.device import Device
from tests.simulated_gpu.ptx.memory import Array
from tests.simulated_gpu.ptx.test_boxes import boxes_of
from tests.simulated_gpu.ptx.test_finish import classified, gather, score

MOST = 1.25


def moved(counters: Counters) -> int:
    """Bytes of all sectors that warps asked for."""
    return (counters.loads.sectors + counters.stores.sectors) * 32


def take(device: Device, kept: Array) -> Counters:
    """Take from 1,000 boxes."""
    return device.launch(
        "take_boxes",
        boxes=device.upload(boxes_of(1000, 0), "boxes"),
        kept=device.upload(kept.astype(np.int32), "kept"),
        taken=device.empty((len(kept), 4), "float32", "taken"),
        capacity=1000,
        count=len(kept),
        horizontal=0.3,
        vertical=1.7,
    )


def test_boxes_taken_in_order_are_moved_once(device: Device) -> None:
    counters = take(device, np.arange(1000))
    assert moved(counters) <= MOST * 1000 * (4 + 16 + 16)
    assert counters.loads.excess <= MOST


def test_boxes_taken_in_any_order_cost_a_sector_each_and_are_read_once(device: Device) -> None:
    counters = take(device, np.random.default_rng(1).permutation(1000))
    assert counters.stores.excess == 1
    assert moved(counters) <= 1000 * (4 + 32 + 16) + 32
    assert counters.bytes_read + counters.bytes_written <= MOST * 1000 * (4 + 16 + 16)


def test_decoding_moves_little_more_than_boxes_deltas_and_results(device: Device) -> None:
    rows, classes = 100, 81
    numbers = {f"{word}_{axis}": 0.1 for word in ("mean", "std") for axis in "xywh"}
    deltas = np.random.default_rng(3).normal(0, 1, (rows, classes, 4)).astype(np.float32)
    counters = device.launch(
        "decode_boxes",
        boxes=device.upload(boxes_of(rows, 2), "boxes"),
        deltas=device.upload(deltas, "deltas"),
        results=device.empty(deltas.shape, "float32", "results"),
        rows=rows,
        classes=classes,
        **numbers,
        height=480,
        width=640,
    )
    assert counters.loads.excess <= MOST
    assert counters.stores.excess == 1
    assert moved(counters) <= MOST * (rows * 16 + 2 * deltas.nbytes)


@pytest.mark.parametrize("score_threshold", [0.0, 0.5, 0.9])
def test_candidates_move_little_more_than_they_must(device: Device, score_threshold: float) -> None:
    rows, classes = 100, 80
    given = classified(rows, classes, 4)
    made, counters = score(device, given, rows, score_threshold)
    decoded = int(np.count_nonzero(made[1].array >= score_threshold))
    read = rows * (classes + 1) * 4 + decoded * 16 + rows * (4 + 4 + 16)
    assert counters.stores.excess == 1
    assert moved(counters) <= MOST * (read + sum(array.nbytes for array in made))


def test_gathering_detections_moves_less_than_twice_what_it_must(device: Device) -> None:
    rows, classes, limit = 100, 80, 100
    given = classified(rows, classes, 4)
    made, _ = score(device, given, rows, 0.0)
    winners = np.random.default_rng(5).permutation(rows * classes)[:limit].astype(np.int32)
    found, counters = gather(device, winners, made, given[4], classes)
    read = limit * (4 + 16 + 4 + 4)
    assert moved(counters) <= 2 * (read + sum(array.nbytes for array in found))
