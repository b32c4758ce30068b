# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.kernels.compiled_matrix import SOURCES, names_in

from foveate.errors import BackendError
from foveate.kernels import compilers
from foveate.kernels.build import CodeCache, compile_kernels
from foveate.kernels.compilers import Nvcc, Nvrtc, choose_compiler, find_nvcc, find_nvrtc

NEW = (75, 80, 90, 100, 120)


@dataclass(frozen=True)
class Machine:
    """A machine whose driver and compilers are set by a test."""

    patch: pytest.MonkeyPatch

    def has(
        self,
        *,
        driver: tuple[int, int] | None = None,
        nvrtc: Nvrtc | Exception,
        nvcc: Nvcc | None = None,
    ) -> None:
        def find() -> Nvrtc:
            if isinstance(nvrtc, Exception):
                raise nvrtc
            return nvrtc

        self.patch.setattr(compilers, "driver_version", lambda: driver)
        self.patch.setattr(compilers, "find_nvrtc", find)
        self.patch.setattr(compilers, "find_nvcc", lambda: nvcc)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def planted_nvcc(tmp_path: Path) -> Nvcc:
    """A program like nvcc 12.4."""
    program = tmp_path / "nvcc"
    program.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --list-gpu-arch ]; then echo compute_75; echo compute_90; exit; fi\n'
        'echo "Cuda compilation tools, release 12.4, V12.4.131"\necho Build cuda_12.4.r12.4\n'
    )
    program.chmod(0o755)
    return Nvcc(program)


def test_nvcc_reports_its_version_and_its_architectures(planted_nvcc: Nvcc) -> None:
    assert planted_nvcc.version == "nvcc Build cuda_12.4.r12.4"
    assert planted_nvcc.cuda == (12, 4)
    assert planted_nvcc.architectures == (75, 90)


def test_an_nvcc_that_does_not_run_is_named(tmp_path: Path, planted_nvcc: Nvcc) -> None:
    planted_nvcc.program.write_text("#!/bin/sh\nexit 3\n")
    message = r"nvcc does not run: .*exit status 3.*: repair the CUDA toolkit"
    with pytest.raises(BackendError, match=message):
        _ = planted_nvcc.version
    with pytest.raises(BackendError, match=r"nvcc does not run: .*No such file"):
        _ = Nvcc(tmp_path / "missing").cuda


def test_an_old_nvcc_on_the_path_does_not_win_over_nvrtc(
    machine: Machine, planted_nvcc: Nvcc
) -> None:
    nvrtc = Nvrtc((13, 5), NEW)
    machine.has(driver=(13, 5), nvrtc=nvrtc, nvcc=planted_nvcc)
    for architecture in ("sm_75", "sm_120"):
        choice = choose_compiler("cubin", architecture)
        assert (choice.compiler, choice.form) == (nvrtc, "cubin")
        assert choice.architecture == architecture


def test_nvcc_compiles_what_nvrtc_does_not_support(machine: Machine, planted_nvcc: Nvcc) -> None:
    machine.has(driver=(13, 5), nvrtc=Nvrtc((12, 0), (75, 80)), nvcc=planted_nvcc)
    assert choose_compiler("cubin", "sm_90").compiler == planted_nvcc


def test_nvcc_serves_where_nvrtc_is_newer_than_the_driver(
    machine: Machine, planted_nvcc: Nvcc
) -> None:
    machine.has(driver=(12, 8), nvrtc=Nvrtc((13, 5), NEW), nvcc=planted_nvcc)
    assert choose_compiler("cubin", "sm_90").compiler == planted_nvcc


def test_without_nvrtc_nvcc_compiles(machine: Machine, planted_nvcc: Nvcc) -> None:
    machine.has(nvrtc=ImportError("no cuda.bindings"), nvcc=planted_nvcc)
    assert choose_compiler("cubin", "sm_90").compiler == planted_nvcc


@pytest.mark.parametrize(
    ("architecture", "known"), [("sm_130", "sm_120"), ("sm_121", "sm_120"), ("sm_89", "sm_80")]
)
def test_an_unknown_architecture_gets_ptx_of_the_newest_before_it(
    machine: Machine, planted_nvcc: Nvcc, architecture: str, known: str
) -> None:
    nvrtc = Nvrtc((13, 5), NEW)
    machine.has(driver=(14, 0), nvrtc=nvrtc, nvcc=planted_nvcc)
    choice = choose_compiler("cubin", architecture)
    assert (choice.compiler, choice.form, choice.architecture) == (nvrtc, "ptx", known)


@pytest.mark.parametrize("error", [ImportError("no cuda.bindings"), RuntimeError("no library")])
def test_without_a_compiler_the_error_says_how_to_get_one(
    machine: Machine, error: Exception
) -> None:
    machine.has(nvrtc=error)
    with pytest.raises(BackendError, match=f"no compiler.*loaded: {error}.*install 'foveate.cuda"):
        choose_compiler("cubin", "sm_89")


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        ((12, 8), r"CUDA 12.8: run: pip install 'foveate\[cuda12\]', or update the driver to one"),
        ((11, 4), "CUDA 11.4: update the driver to one of CUDA 13"),
    ],
)
def test_a_driver_older_than_the_compiler_is_named_with_both_versions(
    machine: Machine, driver: tuple[int, int], words: str
) -> None:
    machine.has(driver=driver, nvrtc=Nvrtc((13, 5), NEW))
    found = "sm_90: Nvrtc is of CUDA 13.5, for sm_75 to sm_120; the driver supports"
    with pytest.raises(BackendError, match=f"no compiler for kernels of {found} {words}"):
        choose_compiler("cubin", "sm_90")


def test_a_gpu_older_than_the_compiler_is_refused(machine: Machine) -> None:
    machine.has(driver=(13, 0), nvrtc=Nvrtc((13, 5), NEW))
    with pytest.raises(BackendError, match="sm_70: .*CUDA 13.0: use a GPU of sm_75 or later"):
        choose_compiler("cubin", "sm_70")


@pytest.mark.parametrize(
    ("driver", "loaded"), [(None, 13), ((14, 1), 13), ((13, 0), 13), ((12, 8), 12), ((11, 8), None)]
)
def test_of_several_installed_the_newest_nvrtc_that_fits_the_driver_is_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    driver: tuple[int, int] | None,
    loaded: int | None,
) -> None:
    for folder, major in (("cu13/lib", 13), ("cuda_nvrtc/lib", 12)):
        (tmp_path / folder).mkdir(parents=True)
        for name in (f"libnvrtc.so.{major}", f"libnvrtc-builtins.so.{major}.2"):
            (tmp_path / folder / name).touch()
    places: list[str] = []
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: package)
    monkeypatch.setattr("ctypes.CDLL", places.append)
    compilers._load_nvrtc(driver)
    names = [f"libnvrtc-builtins.so.{loaded}.2", f"libnvrtc.so.{loaded}"] if loaded else []
    assert [Path(place).name for place in places] == names


def test_the_toolkit_in_cuda_home_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "nvcc"
    program.parent.mkdir()
    program.touch()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert find_nvcc() == Nvcc(program)


def compiler_named(name: str) -> Nvcc | Nvrtc:
    """Return a compiler of this machine, or skip the test."""
    try:
        found = find_nvcc() if name == "nvcc" else find_nvrtc()
    except (ImportError, RuntimeError):
        found = None
    if found is None:
        pytest.skip(f"needs {name}")
    return found


@pytest.mark.parametrize("name", ["nvcc", "nvrtc"])
@pytest.mark.parametrize(
    ("text", "architecture", "words"),
    [
        ("__global__ void kernel(int* a) { int unused; a[0] = 1; }", "sm_75", "unused"),
        ("__global__ void kernel(int* a) { a[0] = b; }", "sm_75", "identifier .b. is undefined"),
        ("__global__ void kernel(int* a) { a[0] = 1; }", "sm_9999", "arch"),
    ],
)
@pytest.mark.parametrize("form", ["ptx", "cubin"])
def test_warnings_errors_and_unknown_architectures_stop_a_compiler(
    tmp_path: Path, name: str, form: str, text: str, architecture: str, words: str
) -> None:
    source, target = tmp_path / "odd.cuh", tmp_path / "odd.code"
    source.write_text(text)
    with pytest.raises(BackendError, match=f"(?s)cannot compile for {architecture}.*{words}"):
        compiler_named(name).compile(
            source, target, include=tmp_path, form=form, architecture=architecture
        )
    assert not target.exists()


def test_nvrtc_alone_compiles_kernels_and_ptx_for_a_gpu_of_the_future(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = compiler_named("nvrtc").architectures[-1]
    monkeypatch.setattr(compilers, "find_nvcc", lambda: None)
    for architecture, form in (("sm_89", "cubin"), ("sm_999", "ptx")):
        compiled = compile_kernels(
            SOURCES[0], form="cubin", architecture=architecture, cache=CodeCache(tmp_path)
        )
        assert compiled.form == form
    text = compiled.path.read_text(encoding="utf-8").rstrip("\0")
    assert f".target sm_{newest}" in text
    assert all(f".entry {name}(" in text for name in names_in(SOURCES[0]))


def test_cuda_bindings_uses_the_nvrtc_that_is_loaded() -> None:
    """In a fresh process, whose choice does not depend on other tests."""
    compiler_named("nvrtc")
    code = (
        "from foveate.kernels import compilers\n"
        "found = compilers.find_nvrtc()\n"
        "maps = open('/proc/self/maps').read()\n"
        "print(found.cuda[0], *{line.split()[-1] for line in maps.splitlines()"
        " if 'libnvrtc.so' in line})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    major, *libraries = done.stdout.split()
    assert len(libraries) == 1
    assert libraries[0].endswith(f".so.{major}")
