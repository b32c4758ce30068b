# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and kill: a prompt exit with one line, and finished work is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.samples.paths import PACKAGE

from foveate.bundle import Bundle, write_bundle

IMAGES = 200
BOUND_S = 15.0  # the machine may be busy; unloaded it takes less than two


_started: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    while _started:
        process = _started.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "foveate", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _started.append(process)
    return process


def end(process: subprocess.Popen[str], *signals: int) -> tuple[str, str]:
    for number in signals:
        os.killpg(process.pid, number)
        time.sleep(0.01)
    out, err = process.communicate(timeout=BOUND_S)
    assert "Traceback" not in err
    assert "terminate called" not in err
    return out, err


def readline(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[30:80, 50:100] = 255, 0, 0
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "000.png"), pixels)
    for index in range(1, IMAGES):
        (tmp_path / "in" / f"{index:03}.png").hardlink_to(tmp_path / "in" / "000.png")
    return tmp_path


@pytest.mark.parametrize(
    ("signals", "status"),
    [((signal.SIGINT,), 130), ((signal.SIGTERM, signal.SIGTERM), 143)],  # the latter by timeout(1)
)
def test_an_interrupted_run_keeps_its_results(
    folder: Path, contrast_bundle: Path, signals: tuple[int, ...], status: int
) -> None:
    words = ["run", "in", "--bundle", str(contrast_bundle), "--json", "o.json", "--output", "out"]
    process = start(folder, *words)
    assert readline(process.stdout).startswith("in/000.png: ")
    _, err = end(process, *signals)
    assert process.returncode == status
    images = json.loads((folder / "o.json").read_text())["images"]
    assert 1 <= len(images) < IMAGES
    assert err == (
        f"foveate: interrupted: {len(images)} of {IMAGES} images done, results in o.json, "
        "overlays in out\n"
    )
    assert not list(folder.rglob(".*"))


def test_an_interrupted_run_prints_its_results(folder: Path, contrast_bundle: Path) -> None:
    process = start(folder, "run", "in", "--bundle", str(contrast_bundle), "--json", "-")
    assert readline(process.stderr).startswith("in/000.png: ")
    out, err = end(process, signal.SIGINT)
    assert process.returncode == 130
    images = json.loads(out)["images"]
    last = f"foveate: interrupted: {len(images)} of {IMAGES} images done"
    assert err.splitlines()[-1] == last


def test_a_killed_run_leaves_a_valid_file(folder: Path, contrast_bundle: Path) -> None:
    process = start(folder, "run", "in", "--bundle", str(contrast_bundle), "--json", "o.json")
    for _ in range(20):
        assert readline(process.stdout)
    end(process, signal.SIGKILL)
    assert 1 <= len(json.loads((folder / "o.json").read_text())["images"]) < IMAGES


def test_a_network_that_never_ends_is_interrupted(
    folder: Path, contrast_bundle: Path, tmp_path: Path
) -> None:
    bundle = endless(contrast_bundle, tmp_path / "endless")
    words = ["run", "in", "--bundle", str(bundle), "--json", "o.json", "--threads", "1"]
    process = start(folder, *words)
    time.sleep(4)  # it prints nothing that shows when the computation starts
    assert process.poll() is None
    started = time.monotonic()
    _, err = end(process, signal.SIGINT)
    assert process.returncode == 130
    assert err == f"foveate: interrupted: 0 of {IMAGES} images done\n"
    assert not (folder / "o.json").exists()
    assert time.monotonic() - started < BOUND_S


def test_every_command_ends_with_one_line(tmp_path: Path) -> None:
    process = start(tmp_path, "verify", "mini")
    time.sleep(1)
    _, err = end(process, signal.SIGINT)
    assert process.returncode == 130
    # While it still starts, the message does not mention figures yet.
    assert err in ("foveate: interrupted\n", "foveate: interrupted: no figures were written\n")
    assert not list(tmp_path.iterdir())


def test_an_interruption_that_python_drops_prints_nothing() -> None:
    script = """if True:
        import gc, sys, weakref
        from foveate.cli._interruption import Interrupted, install_handlers

        def drop(_):
            raise Interrupted(2)

        install_handlers()
        one = set()
        reference = weakref.ref(one, drop)
        del one
        gc.collect()
    """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""


def endless(source: Path, target: Path) -> Path:
    """Copy a bundle; its refine stage counts to 2^62 first."""
    opened = Bundle.open(source)
    model = onnx.load(opened.stage_path("refine"))
    body = helper.make_graph(
        [
            helper.make_node("Add", ["count", "one"], ["more"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("count", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])],
    )
    graph = model.graph
    graph.initializer.append(helper.make_tensor("rounds", TensorProto.INT64, [], [1 << 62]))
    graph.initializer.append(helper.make_tensor("true", TensorProto.BOOL, [], [True]))
    first = next(node for node in graph.node if "logits" in node.output)
    first.output[0] = "logits_before"
    graph.node.extend(
        [
            helper.make_node("ReduceMean", ["logits_before"], ["start"], keepdims=0),
            helper.make_node("Loop", ["rounds", "true", "start"], ["end"], body=body),
            helper.make_node("Add", ["logits_before", "end"], ["logits"]),
        ]
    )
    files = {name: (source / name).read_bytes() for name in opened.manifest.files}
    files[opened.manifest.stages["refine"].file] = model.SerializeToString()
    return write_bundle(target, opened.manifest, files).root


AT_AN_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

module = sys.argv.pop(1)
sys.meta_path.insert(0, Finder())
from foveate.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["foveate.cli", "foveate.cli._interruption", "typer", "onnx"])
def test_an_interruption_of_an_import_is_quiet(module: str) -> None:
    words = [sys.executable, "-c", AT_AN_IMPORT, module, "inspect", "mini"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    # A shell reports 130 for both.
    assert (done.returncode, done.stderr) in ((-2, ""), (130, "foveate: interrupted\n"))


def test_little_is_imported_before_interruptions_are_quiet() -> None:
    code = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import foveate.__main__"
    words = [sys.executable, "-S", "-c", f"{code}; print('typing' in sys.modules)"]
    assert subprocess.check_output(words, text=True) == "False\n"
