# SPDX-License-Identifier: Apache-2.0
"""The compiled taking of masks against its reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from tests.kernels.running import Array, Inputs, run
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.driver import SimulatedGpu

from foveate.kernels.take_masks.op import TAKE_MASKS
from foveate.kernels.take_masks.reference import take_masks

KERNELS = {"x16": ("f4", 72), "x2": ("f2", 47)}  # of several slices


def take(
    gpu: SimulatedGpu, suffix: str, rows: list[int] | None, found: int
) -> tuple[Array, Array, Counters]:
    """Return the masks that are taken out of 5, those of the reference, and the counts."""
    dtype, size = KERNELS[suffix]
    logits = np.random.default_rng(0).standard_normal((5, size, size)).astype(dtype)
    listed = None if rows is None else np.array(rows, np.int32)
    inputs: Inputs = [logits, listed, np.array([found], np.int32)]
    gpu.simulation.launched.clear()
    (taken,) = run(gpu.device, TAKE_MASKS, inputs, [(logits.shape, dtype)])
    (launched,) = gpu.simulation.launched
    assert launched.kernel == f"foveate_take_masks_{suffix}"
    kept = np.full(logits.nbytes, 0xA5, np.uint8).view(dtype).reshape(logits.shape)
    return taken, take_masks(logits, rows, found, kept), launched.counters


@pytest.mark.parametrize("suffix", KERNELS)
@pytest.mark.parametrize("rows", [[4, 2, 4, 4, 1, 0], None])
def test_masks_in_use_equal_the_reference(
    gpu: SimulatedGpu, suffix: str, rows: list[int] | None
) -> None:
    for found in (0, 1, 4):
        taken, expected, _ = take(gpu, suffix, rows, found)
        assert taken.tobytes() == expected.tobytes()


def test_a_mask_of_the_last_of_many_rows_is_taken(gpu: SimulatedGpu) -> None:
    taken, expected, _ = take(gpu, "x16", [*[0] * 69, 3], 70)
    assert taken.tobytes() == expected.tobytes()


def test_rows_beyond_the_list_do_not_exist(gpu: SimulatedGpu) -> None:
    taken, expected, _ = take(gpu, "x2", [1], 1)
    assert take(gpu, "x2", [1], 9)[0].tobytes() == taken.tobytes() == expected.tobytes()


def test_a_mask_that_several_rows_use_is_written_once_in_whole_sectors(gpu: SimulatedGpu) -> None:
    taken, _, counters = take(gpu, "x16", [4, 2, 4, 4, 2], 5)
    assert counters.stores.excess == 1
    assert counters.stores.sectors * 32 == 2 * taken[0].nbytes == counters.bytes_written
