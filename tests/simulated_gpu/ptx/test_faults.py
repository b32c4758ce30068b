# SPDX-License-Identifier: Apache-2.0
"""Each planted fault is caught, and its text says who, where and what."""

from __future__ import annotations

import numpy as np
import pytest
from tests.simulated_gpu.ptx.conftest import GetKernel
from tests.simulated_gpu.ptx.faults import (
    DivergentBarrier,
    Misaligned,
    OutOfBounds,
    Race,
    Trapped,
    Uninitialized,
)
from tests.simulated_gpu.ptx.launch import launch
from tests.simulated_gpu.ptx.memory import Allocation, Memory
from tests.simulated_gpu.ptx.single import ptx_kernel

I32 = np.int32


def arrays(dtype: type = np.float32, count: int = 64) -> tuple[Memory, Allocation, Allocation]:
    memory = Memory(1 << 20)
    uploaded = memory.upload(np.arange(count).astype(dtype), "input")
    return memory, uploaded, memory.empty((256,), dtype, "output")


def test_a_read_behind_the_end_is_caught(snippet: GetKernel) -> None:
    memory, given, output = arrays()
    launch(snippet("read_at"), memory, 1, 64, [given, output, I32(0)])
    with pytest.raises(OutOfBounds) as caught:
        launch(snippet("read_at"), memory, 1, 64, [given, output, I32(3)])
    text = str(caught.value)
    assert text.startswith("read_at: block (0, 0, 0), thread (61, 0, 0): `ld.global")
    assert "snippets.cu:" in text
    assert "PTX line" in text
    assert "reads 4 bytes outside every allocation, 0 bytes past the end of 'input'" in text


def test_a_read_before_the_start_is_caught(snippet: GetKernel) -> None:
    memory, given, output = arrays()
    with pytest.raises(OutOfBounds, match=r"8 bytes before the start of 'input' \(256 bytes\)"):
        launch(snippet("read_at"), memory, 1, 64, [given, output, I32(-2)])


def test_a_null_pointer_is_caught(snippet: GetKernel) -> None:
    memory, given, _ = arrays()
    with pytest.raises(OutOfBounds, match="at address 0x0, far from every allocation"):
        launch(snippet("endless"), memory, 1, 1, [None])
    with pytest.raises(OutOfBounds, match="far from every allocation"):
        launch(snippet("read_at"), memory, 1, 64, [given, None, I32(0)])


def test_a_misaligned_vector_is_caught(snippet: GetKernel) -> None:
    memory, given, output = arrays(count=256)
    launch(snippet("read_wide"), memory, 1, 32, [given, output, I32(4)])
    with pytest.raises(Misaligned, match=r"accesses 16 bytes at address .*, no multiple of 16"):
        launch(snippet("read_wide"), memory, 1, 32, [given, output, I32(2)])


@pytest.mark.parametrize("kernel", ["neighbors", "overwrite"])
def test_a_missing_barrier_is_a_race(snippet: GetKernel, kernel: str) -> None:
    memory, given, output = arrays(I32)
    launch(snippet(kernel), memory, 1, 64, [given, output, I32(1)])
    with pytest.raises(Race, match="the same place of shared memory, without a barrier between"):
        launch(snippet(kernel), memory, 1, 64, [given, output, I32(0)])


def test_a_warp_needs_its_own_barrier(snippet: GetKernel) -> None:
    memory, given, output = arrays(I32)
    launch(snippet("within_warp"), memory, 1, 64, [given, output, I32(1)])
    with pytest.raises(Race, match=r"meets thread \d+ of its block, which wrote"):
        launch(snippet("within_warp"), memory, 1, 64, [given, output, I32(0)])


def test_threads_that_write_different_values_to_one_place_race(snippet: GetKernel) -> None:
    memory, given, output = arrays(I32)
    launch(snippet("same_place"), memory, 1, 64, [given, output, I32(64)])
    with pytest.raises(Race, match="which wrote the same place"):
        launch(snippet("same_place"), memory, 1, 64, [given, output, I32(32)])
    equal = memory.upload(np.full(64, 7, I32), "equal")
    launch(snippet("same_place"), memory, 1, 64, [equal, output, I32(32)])


def test_shared_memory_that_nobody_wrote_is_caught(snippet: GetKernel) -> None:
    memory, given, output = arrays(I32)
    launch(snippet("half_filled"), memory, 1, 64, [given, output, I32(64)])
    with pytest.raises(Uninitialized, match=r"thread \(40, 0, 0\).*shared address 160 that nobody"):
        launch(snippet("half_filled"), memory, 1, 64, [given, output, I32(40)])


def test_global_memory_that_nobody_wrote_is_caught(snippet: GetKernel) -> None:
    memory, given, output = arrays()
    with pytest.raises(Uninitialized, match=r"nobody wrote, at byte 0 of 'output'"):
        launch(snippet("read_at"), memory, 1, 64, [output, given, I32(0)])


def test_what_is_read_as_constant_may_not_be_written(snippet: GetKernel) -> None:
    memory, given, output = arrays()
    launch(snippet("shift_by_one"), memory, 1, 32, [given, output])
    with pytest.raises(Race, match=r"shift_by_one: writes what it also reads as constant"):
        launch(snippet("shift_by_one"), memory, 1, 32, [given, given])


def test_a_register_that_nobody_wrote_is_caught() -> None:
    kernel = ptx_kernel(
        1, "ld.param.u64 %d1, [p0]; mov.u32 %r2, %r1; st.global.u32 [%d1], %r2; ret;"
    )
    memory, given, _ = arrays(I32)
    with pytest.raises(Uninitialized, match="uses register %r2, to which nobody wrote"):
        launch(kernel, memory, 1, 1, [given])


def test_a_register_that_only_some_threads_wrote_is_caught() -> None:
    body = """ld.param.u64 %d1, [p0]; mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 40;
        @!%p1 bra after;
        mov.u32 %r2, 5;
        after:
        mul.wide.u32 %d2, %r1, 4; add.s64 %d3, %d1, %d2; st.global.u32 [%d3], %r2; ret;"""
    memory, given, _ = arrays(I32)
    with pytest.raises(Uninitialized, match=r"thread \(40, 0, 0\).*uses register %r2"):
        launch(ptx_kernel(1, body), memory, 1, 64, [given])
    launch(ptx_kernel(1, body), memory, 1, 40, [given])


def test_a_barrier_that_some_threads_pass_by_is_caught(snippet: GetKernel) -> None:
    memory, _, output = arrays(I32)
    launch(snippet("divergent"), memory, 1, 64, [output, I32(64)])
    with pytest.raises(DivergentBarrier) as caught:
        launch(snippet("divergent"), memory, 1, 64, [output, I32(20)])
    text = str(caught.value)
    assert "divergent: block (0, 0, 0), thread (0, 0, 0): `" in text
    assert "waits for threads that never come: block (0, 0, 0), thread (20, 0, 0) has ended" in text


def test_two_barriers_do_not_stand_for_each_other(snippet: GetKernel) -> None:
    memory, _, output = arrays(I32)
    launch(snippet("two_barriers"), memory, 1, 64, [output, I32(64)])
    with pytest.raises(DivergentBarrier, match=r"thread \(20, 0, 0\) waits at `"):
        launch(snippet("two_barriers"), memory, 1, 64, [output, I32(20)])


def test_a_vote_wants_the_lanes_that_it_names(snippet: GetKernel) -> None:
    memory, _, output = arrays(I32)
    launch(snippet("partial_vote"), memory, 1, 64, [output, I32(64)])
    with pytest.raises(DivergentBarrier, match=r"vote\.sync.*never come.*thread \(20, 0, 0\)"):
        launch(snippet("partial_vote"), memory, 1, 64, [output, I32(20)])


def test_shared_memory_ends(snippet: GetKernel) -> None:
    memory, _, output = arrays(I32)
    launch(snippet("shared_at"), memory, 1, 32, [output, I32(0)])
    with pytest.raises(OutOfBounds, match="shared address 128, outside of its 128 bytes"):
        launch(snippet("shared_at"), memory, 1, 32, [output, I32(1)])


def test_a_loop_without_an_end_is_caught(
    snippet: GetKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.simulated_gpu.ptx.machine.STEP_LIMIT", 1000)
    memory, _, _ = arrays(I32)
    flag = memory.upload(np.zeros(1, I32), "flag")
    with pytest.raises(Trapped, match="has not ended after 1000 basic blocks"):
        launch(snippet("endless"), memory, 1, 32, [flag])


def test_scattered_accesses_cost_more_sectors_than_they_need(snippet: GetKernel) -> None:
    memory, given, output = arrays(count=256)
    dense = launch(snippet("read_at"), memory, 1, 32, [given, output, I32(0)])
    shifted = launch(snippet("read_at"), memory, 1, 32, [given, output, I32(1)])
    assert (dense.loads.requests, dense.loads.sectors, dense.loads.ideal_sectors) == (1, 4, 4)
    assert (shifted.loads.sectors, shifted.loads.excess) == (5, 1.25)
    assert (dense.bytes_read, dense.bytes_written) == (128, 128)
