# SPDX-License-Identifier: Apache-2.0
"""Errors before and after a compilation, each with a remedy."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper
from tests.samples.compiling import KEY, key_with, record_of, write_engine

from foveate.bundle import Bundle
from foveate.bundle.engine_metadata import EngineMetadata, read_metadata
from foveate.errors import BackendError, BundleError, MissingExtraError, OptionError
from foveate.export.engines import CompileOptions
from foveate.export.engines.plugins import choose
from foveate.export.execution.stage_model import CustomOp, load_stage
from foveate.kernels.plugins.build import source_digest
from foveate.kernels.plugins.library import BUILD, check_library
from foveate.system.tensorrt import TARGETS, find_installed, find_runtime

AGAIN = "export the bundle again: foveate export CHECKPOINT --output BUNDLE"
RTX = "run: foveate compile BUNDLE --target tensorrt-rtx"


# --- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"target": "openvino"}, "there is no target 'openvino': use tensorrt, tensorrt-rtx"),
        ({"archs": ("8.9",)}, "'8.9' is not a compute capability: write it as sm_89"),
        ({"optimization_level": 6}, "the optimization level must lie in 0..5, found 6"),
        ({"buckets": (64, 0)}, "a bucket must be at least 1, found 0"),
        ({"image_sizes": ((640, 0),)}, "an image must have at least one pixel"),
        (
            {"ranges": {"boxes": (9, 5, 7)}},
            (
                "the range of 'boxes' must rise from 1 or more, found 9:5:7: write it as "
                "name=smallest:best:largest"
            ),
        ),
        (
            {"hardware_compatibility": "all"},
            "there is no hardware compatibility 'all': use none, ampere+, same-compute-capability",
        ),
        (
            {"plugins": Path("x.so")},
            "tensorrt-rtx does not support --plugins: omit --plugins, or use --target tensorrt",
        ),
        (
            {"version_compatible": True},
            (
                "tensorrt-rtx does not support --version-compatible: omit --version-compatible, "
                "or use --target tensorrt"
            ),
        ),
        (
            {"target": "tensorrt", "archs": ("sm_86", "sm_89")},
            (
                "tensorrt builds for the GPU of this machine only, found --arch sm_86 sm_89: "
                "omit --arch, or use --target tensorrt-rtx"
            ),
        ),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        CompileOptions(**{"target": "tensorrt-rtx", **options})
    assert str(caught.value) == text


# --- the library -----------------------------------------------------------------------------


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError) as caught:
        find_installed("tensorrt")
    assert str(caught.value) == (
        "the module 'tensorrt' is not installed: run: pip install 'foveate[tensorrt]'"
    )


@pytest.mark.parametrize(
    ("version", "accepted"), [("10.12.0.36", False), ("10.13.0.35", True), ("11.4.0.106", True)]
)
def test_a_version_that_is_too_old_is_refused(
    version: str, accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(metadata, "version", lambda _: version)
    if accepted:
        found = find_installed("tensorrt")
        assert (found.version, found.cuda) == (version, "13")
        return
    with pytest.raises(BackendError) as caught:
        find_installed("tensorrt")
    assert str(caught.value) == (
        "tensorrt 10.13 or later is needed, found 10.12.0.36: run: pip install --upgrade "
        "'foveate[tensorrt]'"
    )


@pytest.mark.parametrize(
    ("installed", "module"),
    [
        ({"tensorrt", "tensorrt_lean"}, "tensorrt"),
        ({"tensorrt"}, "tensorrt"),
        ({"tensorrt_lean"}, "tensorrt_lean"),
    ],
)
def test_lean_tensorrt_runs_engines_where_there_is_no_other(
    installed: set[str], module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in installed or None)
    monkeypatch.setattr(metadata, "version", lambda wheel: f"11.{wheel.count('lean')}.0")
    found = find_runtime("tensorrt")
    assert (found.target.module, found.version) == (module, f"11.{module.count('lean')}.0")


def test_without_a_library_to_run_engines_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="'tensorrt_rtx' is not installed"):
        find_runtime("tensorrt-rtx")


# --- the ONNX file ---------------------------------------------------------------------------


def foreign_model(change: str) -> bytes:
    value = helper.make_tensor_value_info
    inputs = [value("image", TensorProto.FLOAT, (1, 3, "height", "width"))]
    if change == "inputs":
        inputs = [value("pixels", TensorProto.FLOAT, (1, 3, "height", "width"))]
    domain = "com.microsoft" if change == "domain" else ""
    node = helper.make_node("Relu", [inputs[0].name], ["scores"], domain=domain)
    outputs = [value("scores", TensorProto.FLOAT, (1, 3, "height", "width"))]
    opsets = [helper.make_opsetid("", 22 if change == "opset" else 18)]
    opsets += [helper.make_opsetid("com.microsoft", 1)] if change == "domain" else []
    graph = helper.make_graph([node], "stage", inputs, outputs)
    content: bytes = helper.make_model(graph, opset_imports=opsets).SerializeToString()
    return content


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\xff\xfe not a model", "the file is not an ONNX model"),
        (b"", "the stage 'propose' has opset none, expected 18"),
        (foreign_model("opset"), "the stage 'propose' has opset 22, expected 18"),
        (
            foreign_model("domain"),
            "the stage 'propose' uses unsupported operator domains: com.microsoft",
        ),
        (foreign_model("inputs"), "the stage 'propose' has the inputs pixels, expected image"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(content: bytes, what: str, tmp_path: Path) -> None:
    file = tmp_path / "propose.onnx"
    file.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        load_stage(Bundle(tmp_path, Bundle.open("mini").manifest), "propose")
    assert str(caught.value) == f"{what}: {file}: {AGAIN}"


def test_the_stages_of_mini_are_ours() -> None:
    bundle = Bundle.open("mini")
    for stage in bundle.manifest.stages:
        load_stage(bundle, stage)


# --- plugins ---------------------------------------------------------------------------------

POOL = CustomOp(name="RoiMaxPool2d", namespace="foveate", version="1", body=True)
BARE = CustomOp(name="RoiMaxPool2d", namespace="foveate", version="1", body=False)
THE_PLUGIN = ("RoiMaxPool2d", "1", "foveate")
LIBRARY = "run: foveate kernels build"


def test_a_registered_plugin_wins_over_the_body() -> None:
    chosen = choose([POOL], [THE_PLUGIN], TARGETS["tensorrt"], library=True)
    assert chosen == {"RoiMaxPool2d": "plugin"}


def test_without_a_library_the_body_is_taken() -> None:
    assert choose([POOL], [], TARGETS["tensorrt"], library=False) == {"RoiMaxPool2d": "body"}


@pytest.mark.parametrize(
    ("op", "creators", "library", "found"),
    [
        (BARE, [], False, "(found: none), and it has no function body"),
        (POOL, [], True, "(found: none)"),
        (POOL, [("RoiMaxPool2d", "2", "foveate")], True, "(found: version 2)"),
        (POOL, [("RoiMaxPool2d", "1", "")], True, "(found: none)"),
    ],
)
def test_a_missing_plugin_is_named_with_the_command_that_builds_it(
    op: CustomOp, creators: list[tuple[str, str, str]], library: bool, found: str
) -> None:
    with pytest.raises(BackendError) as caught:
        choose([op], creators, TARGETS["tensorrt"], library=library)
    assert str(caught.value) == (
        "no plugin is registered for RoiMaxPool2d, version 1, namespace 'foveate' "
        f"{found}: {LIBRARY}"
    )


def test_a_target_without_plugins_asks_for_a_body() -> None:
    with pytest.raises(BundleError) as caught:
        choose([BARE], [], TARGETS["tensorrt-rtx"], library=False)
    assert str(caught.value) == (
        "the operator RoiMaxPool2d, version 1, namespace 'foveate' has no function body, and "
        f"tensorrt-rtx does not support plugins: {AGAIN}"
    )


def test_a_library_of_these_sources_is_accepted(tmp_path: Path) -> None:
    library = tmp_path / "libfoveate_plugins.so"
    library.write_bytes(b"")
    library.with_suffix(".json").write_text(json.dumps({"sources": source_digest()}))
    check_library(library, source_digest())


@pytest.mark.parametrize(
    ("stamp", "what"),
    [
        (None, "the plugin library has no stamp of its sources"),
        ("[]", "the plugin library has no stamp of its sources"),
        (
            json.dumps({"sources": "b" * 64}),
            "the plugin library is stale: expected sources aaaaaaaaaaaa..., found bbbbbbbbbbbb...",
        ),
    ],
)
def test_a_library_of_other_sources_is_refused(
    stamp: str | None, what: str, tmp_path: Path
) -> None:
    library = tmp_path / "libfoveate_plugins.so"
    library.write_bytes(b"")
    if stamp is not None:
        library.with_suffix(".json").write_text(stamp)
    with pytest.raises(BackendError) as caught:
        check_library(library, "a" * 64)
    assert caught.value.what == what
    assert caught.value.remedy == f"run: {BUILD}"


def test_a_library_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="there is no plugin library: .*libx.so: run: foveate k"):
        check_library(tmp_path / "libx.so", "a" * 64)


def test_the_digest_of_sources_follows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "pool.cu").write_text("one")
    first = source_digest(tmp_path)
    (tmp_path / "notes.md").write_text("no source")
    assert source_digest(tmp_path) == first
    (tmp_path / "pool.cu").write_text("two")
    second = source_digest(tmp_path)
    (tmp_path / "pool.cu").rename(tmp_path / "gather.cu")
    assert len({first, second, source_digest(tmp_path)}) == 3


# --- engines that do not fit -----------------------------------------------------------------


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    assert read_metadata(write_engine(tmp_path)) == record_of(KEY, b"a plan")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({"tensorrt": "1.8.0"}, "TensorRT 1.7.1.116, found 1.8.0"),
        ({"cuda": "12"}, "CUDA 13, found 12"),
        ({"arch": "sm_120"}, "the GPU sm_86 or sm_89, found sm_120"),
    ],
)
def test_an_engine_for_something_else_is_refused(found: dict[str, str], text: str) -> None:
    here = {"tensorrt": "1.7.1.116", "cuda": "13", "arch": "sm_89"}
    record = record_of(KEY, b"")
    record.check_environment(**here)
    with pytest.raises(BackendError) as caught:
        record.check_environment(**here | found)
    assert str(caught.value) == f"the engine 'refine' was compiled for {text}: {RTX}"


@pytest.mark.parametrize(
    ("level", "arch", "accepted"),
    [
        ("ampere+", "sm_80", True),
        ("ampere+", "sm_120", True),
        ("ampere+", "sm_75", False),
        ("same-compute-capability", "sm_86", True),
        ("same-compute-capability", "sm_120", False),
    ],
)
def test_compatibility_with_other_gpus_is_honored(level: str, arch: str, accepted: bool) -> None:
    record = record_of(key_with(options={"hardware_compatibility": level}), b"")
    if accepted:
        record.check_environment(tensorrt="1.7.1.116", cuda="13", arch=arch)
        return
    with pytest.raises(BackendError, match=f"found {arch}"):
        record.check_environment(tensorrt="1.7.1.116", cuda="13", arch=arch)


def test_an_engine_that_later_versions_may_run_is_not_refused_for_an_update() -> None:
    record = record_of(key_with(tensorrt="11.1.0", options={"version_compatible": True}), b"")
    record.check_environment(tensorrt="11.4.0", cuda="13", arch="sm_89")
    for other in ("10.13.3", "12.0.0", "11.0.0"):
        with pytest.raises(BackendError, match="compiled for TensorRT 11.1.0"):
            record.check_environment(tensorrt=other, cuda="13", arch="sm_89")


@pytest.mark.parametrize("part", ["onnx", "plugins"])
def test_an_engine_of_other_sources_is_refused(part: str) -> None:
    sources: dict[str, Any] = {"onnx": KEY.onnx, "plugins": KEY.plugins}
    record = record_of(KEY, b"")
    record.check_sources(**sources)
    what = {"onnx": "another ONNX file", "plugins": "other plugin sources"}[part]
    with pytest.raises(BackendError, match=rf"from {what}, expected cccccccccccc\.\.\., found"):
        record.check_sources(**sources | {part: "c" * 64})


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda plan: plan.write_bytes(b"another"), "a plan has changed (SHA-256 "),
        (lambda plan: plan.unlink(), "an engine is incomplete (No such file or directory)"),
        (lambda plan: plan.with_suffix(".json").unlink(), "an engine is incomplete (No such file"),
        (
            lambda plan: plan.with_suffix(".json").write_text('{"schema": 2}'),
            "the metadata of an engine are invalid: schema 2 found, 1 expected",
        ),
        (
            lambda plan: plan.with_suffix(".json").write_text("{"),
            "the metadata of an engine are inva",
        ),
    ],
)
def test_a_damaged_engine_is_refused(
    damage: Callable[[Path], object], what: str, tmp_path: Path
) -> None:
    folder = tmp_path / "tensorrt-rtx"
    folder.mkdir()
    plan = write_engine(folder)
    damage(plan)
    with pytest.raises(BundleError) as caught:
        read_metadata(plan)
    assert caught.value.what.startswith(what)
    assert str(tmp_path) in str(caught.value.file)
    assert caught.value.remedy == RTX


def test_a_record_of_wrong_kinds_is_refused() -> None:
    text = record_of(KEY, b"").to_json().replace('"seconds": 0.5', '"seconds": "long"')
    with pytest.raises(BundleError, match="'seconds' must be float, found 'long'"):
        EngineMetadata.from_json(text)
