# SPDX-License-Identifier: Apache-2.0
"""A compilation for TensorRT builds the plugin library if it needs one, and loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.samples.compiling import refine_options

from foveate.bundle import Bundle
from foveate.errors import BackendError, OptionError
from foveate.export.engines import CompileOptions, EngineCache, build_requests, compile_bundle
from foveate.export.engines import compiler as module
from foveate.export.engines.process import BuildJob
from foveate.kernels.plugins.build import source_digest
from foveate.kernels.plugins.library import library_path
from foveate.progress import Progress
from foveate.system import tensorrt
from foveate.system.gpu import Gpu
from foveate.system.tensorrt import TARGETS, Installed


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with a GPU and TensorRT."""
    here = Gpu(name="A GPU", arch="sm_89", driver="13.0")
    installed = Installed(target=TARGETS["tensorrt"], version="11.4.0", cuda="13")
    monkeypatch.setattr(module, "current_gpu", lambda: here)
    monkeypatch.setattr(module, "find_installed", lambda _: installed)
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


def options(**changes: Any) -> CompileOptions:
    return refine_options(**{"target": "tensorrt", "archs": (), "stages": (), **changes})


def test_only_stages_with_operators_of_ours_depend_on_the_library() -> None:
    requests = build_requests(Bundle.open("mini"), options())
    place = library_path(source_digest(), "sm_89")
    assert {one.key.stage: (one.key.plugins, one.plugins) for one in requests} == {
        "propose": (None, None),
        "refine": (source_digest(), place),
        "features": (None, None),
        "classify": (source_digest(), place),
    }


@pytest.mark.parametrize(
    "changes", [{"no_plugins": True}, {"target": "tensorrt-rtx", "archs": ("sm_89",)}]
)
def test_without_plugins_no_stage_depends_on_the_library(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = TARGETS[changes.get("target", "tensorrt")]
    found = Installed(target=target, version="11.4.0", cuda="13")
    monkeypatch.setattr(module, "find_installed", lambda _: found)
    requests = build_requests(Bundle.open("mini"), options(**changes))
    assert {(one.key.plugins, one.plugins) for one in requests} == {(None, None)}


def test_a_library_for_a_later_cuda_than_the_driver_builds_nothing_for_this_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tensorrt, "driver_version", lambda: (12, 8))
    with pytest.raises(BackendError) as caught:
        build_requests(Bundle.open("mini"), options())
    assert str(caught.value) == (
        "tensorrt 11.4.0 is for CUDA 13, and the driver supports CUDA 12.8 at most: update the "
        "driver, or install tensorrt-cu12 in place of it"
    )
    found = Installed(target=TARGETS["tensorrt-rtx"], version="1.7.1", cuda="13")
    monkeypatch.setattr(module, "find_installed", lambda _: found)
    others = options(target="tensorrt-rtx", archs=("sm_86",))
    assert {one.key.archs for one in build_requests(Bundle.open("mini"), others)} == {("sm_86",)}


def test_a_compilation_obtains_the_library_before_it_builds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    events = []

    def run_build(job: BuildJob, progress: Progress) -> dict[str, Any]:
        events.append((job.key.stage, job.plugins))
        Path(job.plan).write_bytes(b"a plan")
        return {"size": 6, "dispatch": {}, "layers": None}

    monkeypatch.setattr(module, "run_build", run_build)
    monkeypatch.setattr(module, "obtain_library", lambda arch: events.append(("library", arch)))
    for _ in range(2):  # the second time, all engines come from the cache
        built = compile_bundle(
            Bundle.open("mini"),
            options(stages=("features", "classify")),
            EngineCache(tmp_path / "engines"),
            output=tmp_path,
        )
        assert len(list(built)) == 2
    place = str(library_path(source_digest(), "sm_89").resolve())
    library = ("library", "sm_89")
    assert events == [library, ("features", None), ("classify", place), library]


def test_plugins_and_no_plugins_exclude_each_other() -> None:
    with pytest.raises(OptionError, match="--plugins and --no-plugins exclude each other: omit o"):
        options(plugins=Path("x.so"), no_plugins=True)
