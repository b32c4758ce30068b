# SPDX-License-Identifier: Apache-2.0
"""Launches that a driver refuses."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from tests.samples.kernel_compilers import require_nvcc
from tests.simulated_gpu.driver.faults import Status
from tests.simulated_gpu.driver.raw import Raw
from tests.simulated_gpu.ptx.compilation import compile_file

pytest.importorskip("cuda.bindings.driver", reason="needs the package cuda-bindings")

SUM = """
extern "C" __global__ void __launch_bounds__(96) sum(int* x) {
    extern __shared__ int given[];
    __shared__ int own[1000];
    own[threadIdx.x] = given[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = own[95 - threadIdx.x] + given[95 - threadIdx.x];
}
"""


@pytest.mark.parametrize(
    ("grid", "block", "shared", "status"),
    [
        ((2, 1, 1), (96, 1, 1), 49152 - 4000, Status.SUCCESS),
        ((2, 1, 1), (96, 1, 1), 49152 - 3999, Status.INVALID_VALUE),
        ((2, 1, 1), (97, 1, 1), 384, Status.INVALID_VALUE),
        ((2, 1, 1), (32, 4, 1), 384, Status.INVALID_VALUE),
        ((0, 1, 1), (96, 1, 1), 384, Status.INVALID_VALUE),
        ((1 << 31, 1, 1), (96, 1, 1), 384, Status.INVALID_VALUE),
        ((1, 65536, 1), (96, 1, 1), 384, Status.INVALID_VALUE),
    ],
)
def test_a_launch_is_within_the_limits_of_its_kernel_and_of_the_gpu(
    grid: tuple[int, ...],
    block: tuple[int, ...],
    shared: int,
    status: Status,
    raw: Raw,
    tmp_path: Path,
) -> None:
    require_nvcc()
    (tmp_path / "sum.cu").write_text(SUM)
    code = compile_file(tmp_path / "sum.cu", "sm_75").encode() + b"\0"
    library = raw("cuLibraryLoadData", code, [], [], 0, [], [], 0)
    kernel = int(raw("cuLibraryGetKernel", library, b"sum"))
    arguments = ((raw.memory(384),), (ctypes.c_void_p,))
    found = raw.status("cuLaunchKernel", kernel, *grid, *block, shared, raw.stream(), arguments, 0)
    assert found == status
