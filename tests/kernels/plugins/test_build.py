# SPDX-License-Identifier: Apache-2.0
"""Building the plugin library: headers, compiler and architectures, and the files written."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
from pathlib import Path

import pytest
from tests.kernels.plugins.mock_host import host as mock

from foveate.cli import invoke
from foveate.errors import BackendError, OptionError
from foveate.kernels.build import ARCHITECTURES
from foveate.kernels.compilers import Nvcc
from foveate.kernels.plugins import build as plugin_library
from foveate.kernels.plugins.build import (
    build_library,
    find_architectures,
    find_headers,
    require_nvcc,
    source_digest,
    tensorrt_version,
)
from foveate.kernels.plugins.library import check_library

MISSING = mock.what_is_missing()
needs_compiler = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def headers_of(folder: Path, *version: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "NvInferRuntime.h").touch()
    lines = [
        f"#define TRT_{name}_ENTERPRISE {number}\n#define NV_TENSORRT_{name} TRT_{name}_ENTERPRISE"
        for name, number in zip(("MAJOR", "MINOR", "PATCH"), version, strict=False)
    ]
    (folder / "NvInferVersion.h").write_text("\n".join(lines))
    return folder


PTX, CUBIN = 1, 2


def device_code(library: bytes) -> set[tuple[int, int]]:
    """Return the form and the architecture of each entry of the fat binaries in a library.

    A fat binary begins with a header of 16 bytes (magic number, version, length of the header,
    length of the rest); each entry begins with one (form, -, length of the header, length of the
    code, ..., architecture).
    """
    mark, found = 0xBA55ED50.to_bytes(4, "little"), set()
    at = library.find(mark)
    while at >= 0:
        _, _, head, length = struct.unpack_from("<IHHQ", library, at)
        code, end = at + head, at + head + length
        while head == 16 and code < end:
            form, _, head_of_code, size = struct.unpack_from("<HHIQ", library, code)
            found.add((form, *struct.unpack_from("<I", library, code + 28)))
            code += head_of_code + size
        at = library.find(mark, at + 4)
    return found


def fake_program(folder: Path, name: str, text: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return program


def test_headers_are_taken_from_the_given_folder_or_an_install(tmp_path: Path) -> None:
    folder = headers_of(tmp_path / "TensorRT-11" / "include", 11, 4, 1)
    assert find_headers(folder) == find_headers(folder.parent) == folder
    assert tensorrt_version(folder) == (11, 4, 1)


def test_headers_are_taken_from_tensorrt_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = headers_of(tmp_path / "include", 10, 14, 1)
    monkeypatch.setenv("TENSORRT_HOME", str(tmp_path))
    assert find_headers() == folder


def test_missing_headers_are_named_with_a_way_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = (
        "run: pip install --no-deps kernel-lens==2.0.1, or set TENSORRT_HOME, or pass their "
        "directory: foveate kernels build --tensorrt-include DIRECTORY"
    )
    with pytest.raises(BackendError) as caught:
        find_headers(tmp_path)
    what = "TensorRT's headers were not found: there is no NvInferRuntime.h"
    assert str(caught.value) == f"{what}: {tmp_path}: {way}"
    monkeypatch.delenv("TENSORRT_HOME", raising=False)
    monkeypatch.setattr(plugin_library, "_HEADER_FOLDERS", ())
    monkeypatch.setattr(plugin_library, "HEADERS_PACKAGE", "not-installed==1")
    with pytest.raises(
        BackendError, match="^TensorRT's headers were not found: there is no NvInferRuntime.h: "
    ):
        find_headers()


def test_headers_before_ipluginv3_are_refused(tmp_path: Path) -> None:
    folder = headers_of(tmp_path / "old", 8, 6, 1)
    with pytest.raises(
        BackendError, match="expected headers of TensorRT 10.0 or later, found 8.6.1"
    ):
        find_headers(folder)


def test_headers_without_a_version_are_refused(tmp_path: Path) -> None:
    folder = headers_of(tmp_path / "half", 10)
    with pytest.raises(BackendError, match="TensorRT's headers do not define its version"):
        find_headers(folder)


def test_a_missing_nvcc_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_library, "find_nvcc", lambda: None)
    with pytest.raises(BackendError) as caught:
        require_nvcc()
    assert caught.value.remedy == (
        "install the CUDA toolkit, or set CUDA_HOME to its directory, or compile engines without "
        "plugins: --no-plugins"
    )


def test_the_architectures_are_those_of_the_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_program(tmp_path, "nvidia-smi", "printf '9.0\\n8.9\\n9.0\\n'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert find_architectures() == ("sm_89", "sm_90")


@pytest.mark.parametrize("text", ["exit 9", "echo No devices were found", "true"])
def test_without_a_gpu_an_architecture_must_be_given(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_program(tmp_path, "nvidia-smi", text)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(BackendError) as caught:
        find_architectures()
    assert caught.value.what == "no GPU to build for: nvidia-smi reports none"
    assert caught.value.remedy == "pass an architecture, as in --arch sm_89, or --arch all"


@pytest.mark.parametrize("names", [["8.9"], ["all", "sm_89"], []])
def test_names_that_are_no_architectures_are_refused(names: list[str], tmp_path: Path) -> None:
    headers = headers_of(tmp_path / "include", 10, 14, 1)
    with pytest.raises(OptionError, match="architectures must be names like sm_89, or all alone"):
        build_library(
            tmp_path / "lib.so", architectures=names, headers=headers, nvcc=Nvcc(tmp_path)
        )


def test_the_output_of_a_failed_compiler_is_reported_and_nothing_is_left_behind(
    tmp_path: Path,
) -> None:
    nvcc = Nvcc(fake_program(tmp_path, "nvcc", 'echo "$@ is too new" >&2; test "$1" = --version'))
    headers = headers_of(tmp_path / "include", 10, 14, 1)
    output = tmp_path / "built" / "lib.so"
    nvcc.__dict__["version"] = "nvcc 1"
    with pytest.raises(BackendError, match="nvcc cannot compile the plugins for sm_75, sm_120: .*"):
        build_library(output, architectures=["sm_120", "sm_75"], headers=headers, nvcc=nvcc)
    assert not output.parent.exists()


def test_the_command_fails_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["kernels", "build", "--tensorrt-include", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert re.match("foveate: (no nvcc|TensorRT's headers were not found)", error)
    assert error.count("\n") == 1


@needs_compiler
def test_the_library_exports_two_names_and_needs_neither_cuda_nor_tensorrt() -> None:
    path = str(mock.compile_device_library())
    names = subprocess.run(
        ["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True
    )
    strong = [line.split()[2] for line in names.stdout.splitlines() if " T " in line]
    assert strong == ["getCreators", "setLoggerFinder"]
    needs = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True)
    libraries = re.findall(r"NEEDED.*\[(.+?)\]", needs.stdout)
    assert not [name for name in libraries if re.search("cuda|nvinfer", name)]


@needs_compiler
def test_the_library_has_code_for_the_architecture_and_ptx_for_newer_ones() -> None:
    code = device_code(mock.compile_device_library().read_bytes())
    number = int(mock.ARCHITECTURE.removeprefix("sm_"))
    assert code == {(PTX, number), (CUBIN, number)}


@needs_compiler
@pytest.mark.slow
def test_the_command_builds_for_every_architecture_and_compile_accepts_it(tmp_path: Path) -> None:
    output = tmp_path / "libfoveate_plugins.so"
    assert invoke(["kernels", "build", "--arch", "all", "--output", str(output)]) == 0
    check_library(output, source_digest())
    stamp = json.loads(output.with_suffix(".json").read_text())
    assert stamp["architectures"] == list(ARCHITECTURES)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "libfoveate_plugins.json",
        "libfoveate_plugins.so",
    ]
    library = mock.Library(output)
    assert len(library.creators()) == 2
    newest = int(ARCHITECTURES[-1].removeprefix("sm_"))
    numbers = {int(name.removeprefix("sm_")) for name in ARCHITECTURES}
    assert device_code(output.read_bytes()) == {(PTX, newest), *((CUBIN, one) for one in numbers)}
