# SPDX-License-Identifier: Apache-2.0
"""The machine code that ptxas makes of every kernel, read with nvdisasm."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.kernels.compiled_matrix import MATRIX, is_wide, names_in
from tests.samples.kernel_compilers import needs_nvcc

from foveate.kernels.build import compile_kernels

# Kernels that read, or write, contiguous values beside those of `lanes` more than 1. What is gathered
# lies at any address, so that only its writing is wide.
READS_WIDE = (
    *("gather_boxes", "paste_windows", "upsample_map", "letterbox", "resize", "postprocess"),
)
WRITES_WIDE = ("gather_boxes", "resize", "postprocess")


def find_nvdisasm() -> str | None:
    """Find the disassembler on the PATH or in the package nvidia-cuda-nvdisasm."""
    package = find_spec("nvidia")
    places = (package.submodule_search_locations if package else None) or ()
    inside = [Path(place) / "cu13" / "bin" / "nvdisasm" for place in places]
    return shutil.which("nvdisasm") or next((str(path) for path in inside if path.is_file()), None)


pytestmark = [
    needs_nvcc,
    pytest.mark.skipif(find_nvdisasm() is None, reason="needs the package nvidia-cuda-nvdisasm"),
]


@cache
def sass_of(source: Path, architecture: str) -> dict[str, str]:
    """Return the instructions of each kernel of a source."""
    program = find_nvdisasm()
    assert program is not None
    cubin = compile_kernels(source, form="cubin", architecture=architecture).path
    command = [program, "-c", str(cubin)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    parts = re.split(r"^\.text\.(\w+):$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(("source", "architecture"), MATRIX)
def test_no_kernel_touches_local_memory(source: Path, architecture: str) -> None:
    kernels = sass_of(source, architecture)
    assert kernels.keys() == names_in(source)
    for name, code in kernels.items():
        assert re.search(r"\bEXIT\b", code), name
        assert not re.findall(r"\b(?:LDL|STL)\b", code), name


@pytest.mark.parametrize(("source", "architecture"), MATRIX)
def test_contiguous_values_move_16_bytes_an_access(source: Path, architecture: str) -> None:
    for name, code in sass_of(source, architecture).items():
        stem = name.removeprefix("foveate_")
        if stem.startswith(READS_WIDE) or (is_wide(name) and not stem.startswith("crop")):
            assert re.search(r"\bLDG?\.E\.128", code), name
        if is_wide(name) or stem.startswith(WRITES_WIDE):
            assert re.search(r"\bSTG?\.E\.128", code), name
