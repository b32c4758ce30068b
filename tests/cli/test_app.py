# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import importlib
import logging
import shutil
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path

import pytest
from tests.samples.images import write_small_cat

from foveate import __version__
from foveate.bundle import bundle
from foveate.cli import demo, doctor, invoke
from foveate.cli._app import COMMANDS, build_app
from foveate.cli._console import print_thread_error
from foveate.cli.doctor import PROBES
from foveate.errors import BackendError


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--version"]) == 0
    assert capsys.readouterr().out == f"foveate {__version__}\n"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([name, "--help"]) == 0
    assert f"foveate {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_has_a_module_with_a_summary(name: str) -> None:
    module = importlib.import_module(f"foveate.cli.{name.replace('-', '_')}")
    assert build_app(name) is not None
    assert hasattr(module, "app") or module.command.__doc__


def test_an_unknown_command_has_status_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_run_and_help_import_no_extras() -> None:
    code = (
        "import sys; from foveate.cli import invoke; invoke(['run', '--help']);"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'cv2', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("evaluate", "torch", "export"),
        ("export", "onnx", "export"),
        ("train", "torch", "train"),
        ("compile", "onnx", "tensorrt"),
        ("inspect", "onnx", "onnx"),
        ("triton", "onnx", "onnx"),
    ],
)
def test_a_missing_extra_is_one_line(
    command: str,
    module: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(f"foveate.cli.{command}.command", fail)
    assert invoke([command]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"foveate: the module '{module}' is not installed")
    assert err.endswith(f"pip install 'foveate[{extra}]'\n")


def test_a_command_leaves_the_log_and_the_hooks_of_its_program(
    contrast_bundle: Path, tmp_path: Path
) -> None:
    image = write_small_cat(tmp_path / "cat.png")
    logger = logging.getLogger("foveate.runtime")

    def state() -> object:
        return logger.handlers, logger.level, logger.propagate, sys.excepthook

    before = state()
    words = [str(image), "--bundle", str(contrast_bundle), "--output", str(tmp_path / "found")]
    assert invoke(["run", *words]) == 0
    assert state() == before
    assert invoke(["run", *words, "--backend", "none"]) == 1
    assert state() == before


@pytest.mark.parametrize(("text", "described"), [("by\nzero", ": by zero"), ("", "")])
def test_an_unexpected_error_is_one_line(
    text: str, described: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise ZeroDivisionError(text)

    monkeypatch.setattr("foveate.cli.doctor.command", command)
    assert invoke(["doctor"]) == 1
    err = capsys.readouterr().err
    assert err == (
        f"foveate: internal error (ZeroDivisionError{described}): "
        "run it again with --debug, and report it\n"
    )
    with pytest.raises(ZeroDivisionError):
        invoke(["doctor", "--debug"])


def test_a_full_disk_is_one_line_wherever_it_occurs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "run/windows-0/coarse.npy")

    monkeypatch.setattr("foveate.cli.doctor.command", command)
    assert invoke(["doctor"]) == 1
    assert capsys.readouterr().err == (
        "foveate: no space is left (No space left on device): run/windows-0/coarse.npy: free some "
        "space, and run it again\n"
    )


def test_a_thread_that_fails_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(threading, "excepthook", print_thread_error)
    thread = threading.Thread(target=fail, name="writer")
    thread.start()
    thread.join()
    assert capsys.readouterr().err == (
        f"foveate: the thread writer failed (OSError: [Errno {errno.EFBIG}] File too large)\n"
    )


@pytest.fixture
def shipped(contrast_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the contrast bundle the shipped one."""
    shutil.copytree(contrast_bundle, tmp_path / "assets" / "bundles" / "mini")
    monkeypatch.setattr(bundle, "_SHIPPED", tmp_path / "assets" / "bundles")


@pytest.mark.usefixtures("shipped")
def test_demo_writes_an_overlay_per_image_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["demo", "--output", str(tmp_path / "out")]) == 0
    images = {path.stem for path in demo.IMAGES.glob("*.jpg")}
    assert images
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"index.html", *(f"{stem}-overlay.jpg" for stem in images)}
    *_, overlays, page = capsys.readouterr().out.splitlines()
    assert overlays.endswith(f"The overlays are in {tmp_path / 'out'}")
    assert page.endswith(str(tmp_path / "out" / "index.html"))


@pytest.mark.usefixtures("shipped")
def test_doctor_reports_what_works(capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["doctor"]) == 0
    out, noise = capfd.readouterr()
    assert not noise, "libraries write to the terminal beside the findings"
    assert "works    ONNX Runtime on the CPU: version " in out
    assert "shipped bundles: mini" in out
    assert "works    video with OpenCV: wrote and read a frame" in out
    for name in ("TensorRT", "PyCUDA", "nvcc", "NVIDIA driver", "cuda-core", "video with PyAV"):
        assert f" {name}: " in out


def test_doctor_says_how_to_install_the_packages_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(doctor, "PROBES", {"cuda-core": PROBES["cuda-core"]})
    assert invoke(["doctor"]) == 0
    assert capsys.readouterr().out.endswith(
        "missing  cuda-core: not installed\n         pip install 'foveate[cuda]'\n"
    )


def test_doctor_fails_if_nothing_can_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> str:
        raise BackendError("gone", remedy="get it")

    monkeypatch.setattr(doctor, "PROBES", {"ONNX Runtime on the CPU": broken})
    assert invoke(["doctor"]) == 1
    assert capsys.readouterr().out.endswith(
        "missing  ONNX Runtime on the CPU: gone\n         get it\n"
    )


def test_a_module_that_crashes_is_reported_as_missing() -> None:
    with pytest.raises(BackendError) as caught:
        doctor._module("os", "nothing", "m.abort()")()
    assert caught.value.remedy == "pip install nothing"
