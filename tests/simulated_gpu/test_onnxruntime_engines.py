# SPDX-License-Identifier: Apache-2.0
"""All engines of a bundle are opened for a GPU whose context is current in one thread only."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any
from weakref import ref

import onnxruntime
import pytest
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.sessions import SimulatedSession, simulate_sessions

from foveate.bundle import Bundle
from foveate.errors import OutOfMemoryError
from foveate.runtime.devices.cuda import CudaDevice
from foveate.runtime.devices.cuda_context import CudaContext
from foveate.runtime.engines import onnxruntime_cuda
from foveate.runtime.engines.onnxruntime_cuda import OnnxRuntimeCudaEngine
from foveate.runtime.engines.onnxruntime_engines import open_onnxruntime_engines


class ThreadContext(CudaContext):
    """A context that no call makes current in another thread, as one of PyCUDA."""

    def use(self) -> None:
        assert int(self.call("cuCtxGetCurrent")) == self._handle, "it is not current here"


def test_each_stage_has_a_stream_of_its_own(
    contrast_bundle: Path, simulated: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate_sessions(monkeypatch, simulated)
    device = CudaDevice(context=ThreadContext())
    bundle = Bundle.open(contrast_bundle)
    engines = open_onnxruntime_engines(bundle, device)
    assert list(engines) == ["propose", "refine", "features", "classify"]
    sessions = [one._session for one in engines.values() if isinstance(one, OnnxRuntimeCudaEngine)]
    assert len({one.stream for one in sessions}) == 4
    for one in engines.values():
        one.close()


def test_the_libraries_of_cuda_are_loaded_once_and_standard_output_stays(
    contrast_bundle: Path,
    simulated: Simulation,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: list[int] = []

    def preload() -> None:
        calls.append(1)
        time.sleep(0.1 * len(calls))  # so that calls that begin together do not end in that order
        sys.stdout.write("Failed to load libcublas.so.13\n")

    simulate_sessions(monkeypatch, simulated)
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    vars(onnxruntime_cuda._prepare)["__wrapped__"].cache_clear()
    for one in open_onnxruntime_engines(Bundle.open(contrast_bundle), CudaDevice()).values():
        one.close()
    sys.stdout.write("after\n")
    assert (len(calls), capsys.readouterr().out) == (1, "after\n")


def test_the_stages_that_opened_are_closed_if_another_one_does_not(
    contrast_bundle: Path, simulated: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate_sessions(monkeypatch, simulated)
    bundle = Bundle.open(contrast_bundle)
    refused, opened = bundle.stage_path("propose").read_bytes(), []

    def open_session(source: Path, options: Any, providers: Any) -> Any:
        if source.read_bytes() == refused:
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")
        session = SimulatedSession(simulated, source, options, providers)
        opened.append(ref(session))
        return session

    monkeypatch.setattr(onnxruntime_cuda, "open_session", open_session)
    device = CudaDevice()
    with pytest.raises(OutOfMemoryError) as caught:
        open_onnxruntime_engines(bundle, device)
    assert caught.tb is not None  # its frames are alive while the caller closes the device
    assert [session() for session in opened] == [None] * 3
    device.close()
