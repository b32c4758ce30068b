# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import importlib
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import foveate.bundle
from foveate import __version__
from foveate.cli import _probes, demo, invoke
from foveate.cli._app import COMMANDS, build_app
from foveate.cli._console import complain_of_thread
from foveate.cli._probes import PROBES, Finding


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
def test_every_command_says_what_the_list_says(name: str) -> None:
    command = importlib.import_module(f"foveate.cli.{name.replace('-', '_')}").command
    assert build_app(name) is not None
    assert command.__doc__


def test_an_unknown_command_has_status_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_run_and_help_import_nothing_of_the_extras() -> None:
    code = (
        "import sys; from foveate.cli import invoke; invoke(['run', '--help']);"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'cv2', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("module", "extra"), [("torch", "export"), ("onnx", "export")])
def test_a_missing_extra_is_one_line(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("foveate.cli.doctor.command", command)
    assert invoke(["doctor"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"foveate: the module '{module}' is not installed")
    assert err.endswith(f"pip install 'foveate[{extra}]'\n")


def test_an_unexpected_error_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("foveate.cli.doctor.command", command)
    assert invoke(["doctor"]) == 1
    err = capsys.readouterr().err
    assert err == (
        "foveate: this should not have happened (ZeroDivisionError: by zero): "
        "run it again with --debug and report it\n"
    )
    with pytest.raises(ZeroDivisionError):
        invoke(["doctor", "--debug"])


def test_a_full_disk_is_one_line_wherever_it_is_met(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "run/windows-0/coarse.npy")

    monkeypatch.setattr("foveate.cli.doctor.command", command)
    assert invoke(["doctor"]) == 1
    assert capsys.readouterr().err == (
        "foveate: there is no room (No space left on device): run/windows-0/coarse.npy: make room, "
        "and run it again\n"
    )


def test_a_thread_that_ends_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(threading, "excepthook", complain_of_thread)
    thread = threading.Thread(target=fail, name="writer")
    thread.start()
    thread.join()
    assert capsys.readouterr().err == (
        f"foveate: the thread writer ended (OSError: [Errno {errno.EFBIG}] File too large)\n"
    )


@pytest.fixture
def shipped(contrast_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the contrast bundle be the shipped one."""
    shutil.copytree(contrast_bundle, tmp_path / "assets" / "bundles" / "mini")
    monkeypatch.setattr(foveate.bundle, "_SHIPPED", tmp_path / "bundles")


@pytest.mark.usefixtures("shipped")
def test_demo_writes_an_overlay_of_every_photograph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["demo", "--output", str(tmp_path / "out")]) == 0
    photographs = {path.stem for path in demo.PHOTOGRAPHS.glob("*.jpg")}
    assert photographs
    overlays = {path.name for path in (tmp_path / "out").iterdir()}
    assert overlays == {f"{stem}-overlay.jpg" for stem in photographs}
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f"Look at the overlays in {tmp_path / 'out'}")


@pytest.mark.usefixtures("shipped")
def test_doctor_tries_what_works(capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["doctor"]) == 0
    out, noise = capfd.readouterr()
    assert not noise, "libraries write to the terminal beside the findings"
    assert "works    ONNX Runtime on the CPU: version " in out
    assert "shipped bundles: mini" in out
    for name in ("TensorRT", "PyCUDA", "nvcc", "NVIDIA driver", "cuda-core"):
        assert f" {name}: " in out


def test_doctor_fails_if_nothing_can_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Finding:
        return Finding(name="ONNX Runtime on the CPU", works=False, detail="gone", remedy="get it")

    monkeypatch.setattr(_probes, "PROBES", {"onnxruntime": broken})
    assert invoke(["doctor"]) == 1
    assert capsys.readouterr().out.endswith(
        "missing  ONNX Runtime on the CPU: gone\n         get it\n"
    )


def test_a_module_that_crashes_is_missing_not_fatal() -> None:
    probe = _probes._module("crasher", "os", "nothing", "m.abort()")
    finding = probe()
    assert not finding.works
    assert finding.remedy == "pip install nothing"
    assert set(PROBES) >= {"onnxruntime", "onnxruntime-cuda", "tensorrt", "tensorrt-rtx", "nvcc"}
