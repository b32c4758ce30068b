# SPDX-License-Identifier: Apache-2.0
"""Ranges of NVTX, as a tool that NVTX loads sees them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.runtime.devices.opened import Gathering, gathered, simulated_gpu
from tests.samples.c_library import compile_c
from tests.samples.paths import CAT

from foveate.errors import MissingExtraError
from foveate.tracing.clock import SystemClock
from foveate.tracing.nvtx_ranges import NvtxRanges
from foveate.tracing.recording import Recorder, RecordingDevice

pytest.importorskip("nvtx", reason="needs the package nvtx")
INJECTION = Path(__file__).with_name("nvtx_injection.c")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the tool, which NVTX loads once per process."""
    folder = tmp_path_factory.mktemp("nvtx")
    os.environ["NVTX_INJECTION64_PATH"] = f"{compile_c(INJECTION, folder)}"
    os.environ["FOVEATE_NVTX_LOG"] = f"{folder / 'log'}"
    return folder / "log"


def test_a_benchmark_shows_each_image_and_each_network(contrast_bundle: Path, log: Path) -> None:
    options = ["--device", "cpu", "--count", "6", "--warm-up", "0", "--seconds", "1", "--nvtx"]
    command = [sys.executable, "-m", "foveate", "bench", f"{contrast_bundle}", f"{CAT}", *options]
    subprocess.run(command, check=True, capture_output=True)
    lines = log.read_text().splitlines()
    found = Counter(lines)
    images = found["start foveate: image 0"]
    assert images >= 7  # six that are measured, and the warm-up
    assert found["push foveate: features of 0"] == found["push foveate: wait of 0"] == images
    assert sum(line.startswith("end foveate") for line in lines) == images
    pushed = sum(line.startswith("push foveate") for line in lines)
    assert found["pop foveate"] == pushed


def test_a_gpu_enqueues_the_work_of_each_image_in_its_range(log: Path) -> None:
    """Nothing is replayed from a graph, whose work would be in no range."""
    recorder = Recorder(SystemClock(), NvtxRanges())
    with simulated_gpu("cuda", run_kernels=True) as (gpu, _):
        gathering = Gathering(RecordingDevice(recorder, gpu))
        for index in range(3):
            trace = recorder.begin(index)
            assert gathering.run(first=index) == gathered(first=index)
            trace.finish()
        recorder.end()
    lines = log.read_text().splitlines()[-8:]
    assert lines == [
        "start foveate: image 2",
        "push foveate: enqueue of 2",
        "push foveate: gather_boxes of 2",
        "pop foveate",
        "pop foveate",
        "push foveate: wait of 2",
        "pop foveate",
        "end foveate: 3",
    ]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvtx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'foveate\[nvtx\]'"):
        NvtxRanges()
