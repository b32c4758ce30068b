# SPDX-License-Identifier: Apache-2.0
"""The calls of the plugins in ``enqueue``, which a CUDA graph must be able to capture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.kernels.plugins.mock_host import host as mock
from tests.kernels.plugins.mock_host.calls import STREAM
from tests.samples.paths import ROOT

MISSING = mock.what_is_missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def recorded() -> Path:
    """Build the plugins with launchers that record launches."""
    return mock.compile_recording_library()


@pytest.fixture(scope="module")
def calls(recorded: Path) -> list[dict[str, Any]]:
    environment = {
        **os.environ,
        "LD_PRELOAD": str(mock.compile_memory_counter()),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.plugins.mock_host.calls", str(recorded)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_enqueue_allocates_nothing(calls: list[dict[str, Any]]) -> None:
    assert len(calls) == 8
    assert {call["name"]: call["allocations"] for call in calls} == {
        call["name"]: [0, 0] for call in calls
    }


def test_the_counter_sees_an_allocation() -> None:
    code = (
        "import ctypes; here = ctypes.CDLL(None); here.malloc.restype = ctypes.c_void_p;"
        "begin, end, allocate = here.counting_begin, here.counting_end, here.malloc;"
        "begin(); allocate(100); found = end(); print(found)"
    )
    environment = {**os.environ, "LD_PRELOAD": str(mock.compile_memory_counter())}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert int(done.stdout) >= 1


def test_every_launch_goes_to_the_stream_that_tensorrt_passes(calls: list[dict[str, Any]]) -> None:
    for call in calls:
        streams = [line.split()[1] for line in call["launches"][0]]
        assert streams
        assert set(streams) == {str(STREAM)}, call["name"]


def test_enqueuing_again_launches_the_same(calls: list[dict[str, Any]]) -> None:
    """A graph is replayed, so a call must not depend on the state that earlier calls left."""
    for call in calls:
        assert call["launches"][0] == call["launches"][1], call["name"]


def test_the_plugins_call_no_cuda_function_except_launches(recorded: Path) -> None:
    """Launches are recorded in this build, so any other call would allocate, copy or wait."""
    undefined = subprocess.run(
        ["nm", "-D", "--undefined-only", str(recorded)], capture_output=True, text=True, check=True
    )
    names = [line.split()[-1] for line in undefined.stdout.splitlines()]
    assert [name for name in names if name.startswith(("cuda", "__cuda", "cu"))] == []
    waits = ("sem_wait", "pthread_cond_wait", "nanosleep", "usleep", "mmap")
    assert [name for name in names if name.startswith(waits)] == []
