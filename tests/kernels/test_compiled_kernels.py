# SPDX-License-Identifier: Apache-2.0
"""What the compilers make of every kernel. Nothing here needs a GPU."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.kernels.compiled_matrix import MATRIX, SOURCES, is_wide, names_in, ptx_of
from tests.samples.kernel_compilers import needs_nvcc

from foveate.kernels.build import compile_kernels
from foveate.kernels.compilers import find_nvcc, find_nvrtc

# Registers per thread: at least two blocks of 256 threads fit on every multiprocessor.
MOST_REGISTERS = 80
MOST_STATIC_SHARED_BYTES = 1024 + 32

EACH_SOURCE = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


@needs_nvcc
@pytest.mark.parametrize(("source", "architecture"), MATRIX)
def test_kernels_fit_their_registers_and_spill_nothing(source: Path, architecture: str) -> None:
    log = compile_kernels(source, form="cubin", architecture=architecture, compiler=find_nvcc()).log
    found = re.findall(
        r"entry function '(\w+)' for '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers(?:[^\n]*?(\d+) bytes smem)?",
        log.replace("ptxas info    : ", ""),
        re.DOTALL,
    )
    assert {name for name, *_ in found} == names_in(source)
    for name, target, *numbers in found:
        stack, stores, loads, registers, shared = (int(number or 0) for number in numbers)
        assert target.startswith(architecture)
        assert (stack, stores, loads) == (0, 0, 0), name
        assert registers <= MOST_REGISTERS, name
        assert shared <= MOST_STATIC_SHARED_BYTES, name


@needs_nvcc
@EACH_SOURCE
def test_no_multiplication_and_addition_are_contracted(source: Path) -> None:
    instructions = re.findall(r"^\s+(?:@!?%p\d+ )?((?:fma|mad)\.\S+)", ptx_of(source), re.MULTILINE)
    assert not [name for name in instructions if re.search(r"\.(f16|f32|f64)", name)]


@needs_nvcc
def test_coordinates_survive_a_compiler_that_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("build", "compilers"):
        monkeypatch.setattr(f"foveate.kernels.{module}.FLAGS", ("-std=c++17", "-fmad=true"))
    for source in SOURCES:
        if source.stem not in ("letterbox", "map", "crop_features"):
            assert not re.search(r"\bfma\.rn\.f(32|64)", ptx_of(source)), source


@needs_nvcc
@EACH_SOURCE
def test_nothing_lies_in_local_memory(source: Path) -> None:
    assert not re.search(r"\b(ld|st)\.local|\.local ", ptx_of(source))


@needs_nvcc
@EACH_SOURCE
def test_wide_kernels_move_16_bytes_per_access(source: Path) -> None:
    ptx = ptx_of(source)
    for name in filter(is_wide, names_in(source)):
        body = ptx[ptx.index(f".visible .entry {name}(") :].split("\n}\n")[0]
        assert re.search(r"st\.global\.v4\.\w32", body)
        if "pool" in name or "table" in name:  # others read at any address
            loads = re.findall(r"ld\.global(?:\.nc)?(\.v4)?\.([a-z]\d+)", body)
            assert ("", "u16") not in loads
            assert any(vector for vector, _ in loads)


@EACH_SOURCE
def test_nvrtc_makes_the_same_kernels(source: Path) -> None:
    try:
        nvrtc = find_nvrtc()
    except (ImportError, RuntimeError):
        pytest.skip("needs the packages cuda-bindings and nvidia-cuda-nvrtc")
    code = compile_kernels(source, form="cubin", architecture="sm_89", compiler=nvrtc)
    sections = re.findall(rb"\0\.text\.(foveate_\w+)\0", code.path.read_bytes())
    assert {name.decode() for name in sections} == names_in(source)
