# SPDX-License-Identifier: Apache-2.0
"""What the compiler makes of small kernels runs as it would on a device."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from tests.simulated_gpu.ptx.conftest import GetKernel
from tests.simulated_gpu.ptx.launch import Argument, launch
from tests.simulated_gpu.ptx.memory import Memory

I32 = np.int32


def test_threads_leave_a_loop_one_by_one(snippet: GetKernel) -> None:
    memory = Memory(1 << 20)
    start = np.arange(1, 301, dtype=np.uint32)
    uploaded, steps = memory.upload(start, "start"), memory.empty((300,), I32, "steps")
    launch(snippet("collatz"), memory, 5, 64, [uploaded, steps, I32(300)])
    for first, found in zip(start.tolist(), steps.array.tolist(), strict=True):
        value, count = first, 0
        while value > 1:
            value = 3 * value + 1 if value % 2 else value // 2
            count += 1
        assert found == count


def test_structures_and_switches(snippet: GetKernel) -> None:
    memory = Memory(1 << 20)
    which = np.arange(64, dtype=I32) % 9
    uploaded, output = memory.upload(which, "which"), memory.empty((64,), np.int64, "output")
    pair = struct.pack("<ifq", -5, 17.9, 1 << 40)
    launch(snippet("choose"), memory, 1, 64, [pair, uploaded, output])
    i = np.arange(64)
    cases: list[Any] = [-5, 17, 1 << 40, (i & 7) ** 2, i * 1000, -i, i % 3 * 7, 99, 99]
    assert output.array.tolist() == [np.broadcast_to(cases[c], 64)[t] for t, c in enumerate(which)]


def test_vectors_of_every_width(snippet: GetKernel) -> None:
    memory = Memory(1 << 20)
    generator = np.random.default_rng(0)
    a = generator.integers(-99, 99, (32, 4)).astype(np.float32)
    b = generator.integers(-99, 99, (32, 4)).astype(np.int16)
    c = generator.integers(-99, 99, (32, 2)).astype(np.float64)
    arrays = [memory.upload(v, n) for v, n in ((a, "a"), (b, "b"), (c, "c"))]
    output = memory.empty((32, 4), np.float32, "sum")
    counters = launch(snippet("vectors"), memory, 1, 32, [*arrays, output])
    tail = a[:, 3] + c[:, 1] + b[:, 2] + b[:, 3]
    want = np.stack([a[:, 0] + b[:, 0], a[:, 1] + b[:, 1], a[:, 2] + c[:, 0], tail], axis=1)
    np.testing.assert_array_equal(output.array, want)
    assert counters.loads.sectors == 32 * (16 + 8 + 16) // 32
    assert counters.stores.sectors == 16
    assert counters.loads.excess == 1


def test_barriers_sum_a_block(snippet: GetKernel) -> None:
    memory = Memory(1 << 20)
    values = np.random.default_rng(2).integers(-1000, 1000, 384).astype(I32)
    uploaded, output = memory.upload(values, "input"), memory.empty((3,), I32, "output")
    counters = launch(snippet("block_sum"), memory, 3, 128, [uploaded, output])
    assert output.array.tolist() == values.reshape(3, 128).sum(1).tolist()
    assert counters.barriers == 8


def test_lanes_of_a_warp_vote(snippet: GetKernel) -> None:
    memory = Memory(1 << 20)
    values = np.random.default_rng(3).integers(0, 9, 64).astype(I32)
    uploaded, output = memory.upload(values, "input"), memory.empty((64,), np.uint32, "output")
    launch(snippet("warps"), memory, 1, 64, [uploaded, output])
    votes = [sum((v & 1) << i for i, v in enumerate(w)) for w in values.reshape(2, 32).tolist()]
    assert output.array.tolist() == np.repeat(votes, 32).tolist()


def test_atomics_lose_nothing_in_either_order(snippet: GetKernel) -> None:
    for backwards in (False, True):
        memory = Memory(1 << 20)
        values = np.random.default_rng(4).integers(0, 10**6, 256).astype(I32)
        uploaded, bins = memory.upload(values, "input"), memory.upload(np.zeros(8, I32), "bins")
        order = memory.empty((256,), I32, "order")
        counter = memory.upload(np.zeros(1, I32), "counter")
        extremes = memory.upload(np.array([10**6, -1], I32), "extremes")
        total = memory.upload(np.zeros(1, np.float32), "sum")
        wide = memory.upload(np.zeros(1, np.uint64), "wide")
        arguments: list[Argument] = [uploaded, bins, counter, order, extremes, total, wide]
        launch(snippet("atomics"), memory, 4, 64, arguments, backwards=backwards)
        assert bins.array.tolist() == np.bincount(values & 7, minlength=8).tolist()
        assert sorted(order.array.tolist()) == list(range(256))
        assert extremes.array.tolist() == [values.min(), values.max()]
        assert total.array.tolist() == [128.0]
        assert wide.array.tolist() == [256 << 33]
        assert (int(order.array[0]) == 0) is not backwards


def test_tiles_in_dynamic_shared_memory(snippet: GetKernel) -> None:
    memory = Memory(1 << 20)
    values = np.random.default_rng(5).standard_normal((19, 30)).astype(np.float32)
    uploaded, output = memory.upload(values, "input"), memory.empty((30, 19), np.float32, "output")
    arguments: list[Argument] = [uploaded, output, I32(19), I32(30)]
    launch(snippet("transpose", 8 * 9 * 4), memory, (4, 3, 1), (8, 8, 1), arguments)
    np.testing.assert_array_equal(output.array, values.T)
    assert output.written.all()
