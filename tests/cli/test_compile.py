# SPDX-License-Identifier: Apache-2.0
"""`foveate compile` and `foveate cache` on the command line."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from tests.samples.compiling import KEY, key_with, needs_rtx, record_of

from foveate.bundle.engine_key import EngineKey
from foveate.bundle.engine_metadata import EngineMetadata
from foveate.cli import invoke
from foveate.export.engines import EngineCache
from foveate.system.gpu import current_gpu

MINI = ["mini", "--target", "tensorrt-rtx"]


def fill(root: Path, count: int) -> None:
    for number in range(count):
        key = key_with(cuda=str(number))
        plan = bytes(1_000_000)

        def build(path: Path, plan: bytes = plan, key: EngineKey = key) -> EngineMetadata:
            path.write_bytes(plan)
            return record_of(key, plan)

        with EngineCache(root).obtain(key, build):
            pass
        os.utime(root / key.digest(), (1000 + number, 1000 + number))


def test_list_shows_every_engine_and_the_total(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, 3)
    assert invoke(["cache", "list", "--cache", str(tmp_path)]) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(key_with(cuda="2").digest()[:12])
    assert "tensorrt-rtx 1.7.1.116  sm_86 sm_89  1.0 MB" in lines[0]
    assert total == f"3 engines, 0.00 GB in {tmp_path}"


def test_prune_deletes_the_oldest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, 3)
    assert invoke(["cache", "prune", "--max-size", "0.0015", "--cache", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "2 engines deleted, 0.00 GB\n"
    assert [entry.record.key.cuda for entry in EngineCache(tmp_path).entries()] == ["2"]


def test_an_empty_cache_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["cache", "list", "--cache", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out == f"0 engines, 0.00 GB in {tmp_path / 'none'}\n"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "missing"),
    [(["--target", "tensorrt-rtx"], "argument 'bundle'"), (["mini"], "option '--target'")],
)
def test_explain_needs_a_bundle_and_a_target(
    words: list[str], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["cache", "explain", *words]) == 2
    assert f"Missing {missing}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["compile"], ["cache", "explain"]])
def test_both_commands_list_the_options_of_a_compilation(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    options = ("--target", "--arch", "--image-size", "--range", "--strip-weights", "--plugins")
    assert all(f"{option} " in shown for option in (*options, "--cache"))
    assert "foveate/engines in $XDG_CACHE_HOME or ~/.cache" in " ".join(shown.split())


@needs_rtx
def test_compile_then_hit_then_miss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = ["--cache", str(tmp_path / "cache"), "--stage", "refine", "--bucket", "2"]
    words = [*MINI, *cache, "--arch", "sm_89"]
    out = ["--output", str(tmp_path)]
    assert invoke(["compile", *words, *out]) == 0
    assert invoke(["compile", *words, *out]) == 0
    told = capsys.readouterr()
    first, second = told.out.splitlines()
    assert "sm_89  built in" in first
    assert first.endswith("s: no such engine was built before")
    assert second.endswith("sm_89  from the cache")
    assert told.err.splitlines()[-1] == "refine-k2: 100 of 100"
    assert invoke(["cache", "explain", *words]) == 0
    assert invoke(["cache", "explain", *words, "--optimization-level", "5"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "refine-k2: in the cache",
        "refine-k2: option optimization_level: 3 became 5",
    ]


@needs_rtx
def test_a_bundle_that_cannot_be_written_is_compiled_as_a_copy(
    contrast_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(contrast_bundle, bundle)
    (bundle / "engines").symlink_to("/proc")  # where nobody may write, not even root
    assert invoke(["compile", str(bundle), "--target", "tensorrt-rtx", "--arch", "sm_89"]) == 1
    err = capsys.readouterr().err
    assert (
        f"{bundle}/engines/tensorrt-rtx: compile a copy of the bundle: cp -rL {bundle} my-" in err
    )


@needs_rtx
def test_print_trtexec_builds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--image-size", "640x480", "--print-trtexec", "--output", str(tmp_path / "engines")]
    assert invoke(["compile", *MINI, *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6  # propose, features, and the others for the windows of each preset
    assert all(line.startswith("tensorrt_rtx --onnx=") for line in lines)
    for windows, line in zip((250, 100), lines[4:], strict=True):
        assert f"--saveEngine={tmp_path}/engines/classify-640x480-k{windows}.plan" in line
    assert not (tmp_path / "engines").exists()


@needs_rtx
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--image-size", "640"], "expected an image size such as 640x480, got '640'"),
        (["--range", "boxes=5"], "expected a range such as boxes=1:100:400, got 'boxes=5'"),
        (
            ["--print-trtexec", "--arch", "sm_90"],
            "tensorrt-rtx cannot build for sm_90, expected one",
        ),
        (["--print-trtexec", "--cache", "x"], "--print-trtexec takes no --cache: omit one or the"),
        (["--timing-cache", "x"], "tensorrt-rtx does not support --timing-cache: omit --timing-"),
    ],
)
def test_malformed_options_are_one_line(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["compile", *MINI, *words]) == 1
    assert capsys.readouterr().err.startswith(f"foveate: {text}")


@needs_rtx
def test_a_file_is_refused_as_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"")
    assert invoke(["compile", str(file), "--target", "tensorrt-rtx"]) == 1
    assert capsys.readouterr().err == (
        f"foveate: expected the directory of a bundle, found a file: {file}: pass the directory "
        "that 'foveate export' wrote\n"
    )


@pytest.mark.skipif(current_gpu() is not None, reason="needs a machine without a GPU")
def test_tensorrt_without_a_gpu_names_the_alternative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A module of that name suffices: it is not imported before the GPU is looked for."""
    (tmp_path / "tensorrt.py").write_text('__version__ = "11.4.0"\n', encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    assert invoke(["compile", "mini", "--target", "tensorrt"]) == 1
    assert capsys.readouterr().err == (
        "foveate: tensorrt builds for the GPU of this machine, but no driver works here: run it "
        "on a machine with that GPU, or use --target tensorrt-rtx, which needs none\n"
    )


def test_the_key_of_the_samples_is_stable() -> None:
    """A changed digest makes all cached engines of all users miss: change the recipe for a reason."""
    assert KEY.digest().startswith("374dd01c5a45e15d")
