# SPDX-License-Identifier: Apache-2.0
"""The plugin library in the user's cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from foveate.cli import invoke
from foveate.errors import BackendError
from foveate.kernels.compilers import Nvcc
from foveate.kernels.plugins import build, library
from foveate.kernels.plugins.build import source_digest
from foveate.kernels.plugins.library import (
    check_library,
    library_path,
    obtain_library,
    store_library,
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Build libraries without a compiler, and return the architectures they are built for."""
    found: list[str] = []

    def build_library(
        output: Path, *, architectures: Sequence[str], headers: Path, nvcc: Nvcc
    ) -> Path:
        found.extend(architectures)
        return write_library(output)

    nvcc = Nvcc(Path("nvcc"))
    nvcc.__dict__.update(version="nvcc 13.0", cuda=(13, 0))
    monkeypatch.setattr(library, "build_library", build_library)
    for module in (library, build):
        monkeypatch.setattr(module, "require_nvcc", lambda: nvcc)
        monkeypatch.setattr(module, "find_headers", lambda given=None: given or Path("headers"))
    return found


def write_library(path: Path, sources: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a library")
    path.with_suffix(".json").write_text(json.dumps({"sources": sources or source_digest()}))
    return path


def test_a_library_is_built_once_per_gpu(builds: list[str], cache: Path) -> None:
    first = obtain_library("sm_89")
    assert first == cache / "plugins" / source_digest() / "sm_89" / "libfoveate_plugins.so"
    assert obtain_library("sm_89") == first
    assert obtain_library("sm_90") != first
    assert builds == ["sm_89", "sm_90"]
    assert (cache / "plugins").stat().st_mode & 0o777 == 0o700


def test_a_library_of_other_sources_at_its_place_is_built_again(builds: list[str]) -> None:
    write_library(library_path(source_digest(), "sm_89"), "0" * 64)
    check_library(obtain_library("sm_89"), source_digest())
    assert builds == ["sm_89"]


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "find_nvcc", lambda: None)
    monkeypatch.setattr(library, "find_headers", lambda _: Path("headers"))
    with pytest.raises(BackendError) as caught:
        obtain_library("sm_89")
    assert str(caught.value) == (
        "no nvcc, which compiles the plugins: it is neither in CUDA_HOME nor on the PATH: "
        "install the CUDA toolkit, or set CUDA_HOME to its directory, or compile engines without "
        "plugins: --no-plugins"
    )


def test_a_library_with_a_later_runtime_than_the_driver_supports_is_not_built(
    builds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "driver_version", lambda: (12, 8))
    with pytest.raises(BackendError) as caught:
        obtain_library("sm_90")
    assert str(caught.value) == (
        "the driver supports CUDA 12.8, and nvcc would link the plugins with the runtime of CUDA "
        "13.0: nvcc: set CUDA_HOME to a toolkit of CUDA 12, update the driver, or compile with "
        "--no-plugins"
    )
    assert builds == []
    monkeypatch.setattr(library, "driver_version", lambda: (13, 0))
    obtain_library("sm_90")
    assert builds == ["sm_90"]


def test_a_library_that_others_could_change_is_not_used(builds: list[str]) -> None:
    obtain_library("sm_89").chmod(0o666)
    with pytest.raises(BackendError, match="is not loaded, because other users could change it"):
        obtain_library("sm_89")


def test_a_library_of_the_user_is_copied_to_the_place_where_the_runtime_looks(
    tmp_path: Path,
) -> None:
    store_library(write_library(tmp_path / "mine.so"), "sm_89")
    place = library_path(source_digest(), "sm_89")
    check_library(place, source_digest())
    assert place.read_bytes() == b"a library"
    store_library(place, "sm_89")
    assert place.read_bytes() == b"a library"


def test_the_command_builds_into_the_cache(
    builds: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["kernels", "build", "--arch", "sm_90", "--arch", "sm_89"]) == 0
    assert builds == ["sm_89", "sm_90"]
    assert capsys.readouterr().out.splitlines() == [
        "nvcc 13.0, headers in headers, for sm_89, sm_90",
        *(str(library_path(source_digest(), one)) for one in ("sm_89", "sm_90")),
    ]
