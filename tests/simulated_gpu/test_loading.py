# SPDX-License-Identifier: Apache-2.0
"""Which device and which backend are chosen on a machine with a simulated GPU."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
from tests.runtime.devices.opened import simulated_gpu
from tests.samples.plans import TENSORRT
from tests.samples.verified_bundles import small_bundle
from tests.simulated_gpu.tensorrt import SimulatedTensorRT

import foveate
from foveate.bundle import Bundle
from foveate.errors import BackendError
from foveate.runtime.engines import tensorrt as module

IMAGE = np.zeros((64, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("bundles") / "plain")


@pytest.mark.parametrize("kind", ["cuda", "pycuda"])
def test_a_gpu_with_plans_is_chosen(
    kind: str, compiled: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with simulated_gpu(kind) as (_, simulation), caplog.at_level(logging.INFO):
        monkeypatch.setitem(sys.modules, "tensorrt", SimulatedTensorRT(simulation))
        monkeypatch.setattr(module, "find_runtime", lambda _: TENSORRT)
        with foveate.load(compiled.root) as pipeline:
            assert repr(pipeline) == f"Pipeline('mini', device='{kind}')"
    assert caplog.messages == [f"device {kind}: Simulated GPU"]


def test_a_gpu_without_a_backend_is_not_chosen_and_the_log_tells_why(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        simulated_gpu("cuda"),
        caplog.at_level(logging.INFO),
        foveate.load(bundle.root) as pipeline,
    ):
        assert repr(pipeline) == "Pipeline('mini', device='cpu')"
        pipeline(IMAGE)
    (message,) = caplog.messages
    assert message.startswith("device cpu, since the GPU cannot be used: no backend works on the ")
    for backend in ("tensorrt: ", "tensorrt-rtx: ", "onnxruntime: "):
        assert backend in message


def test_a_gpu_that_was_asked_for_is_not_replaced_by_the_cpu(bundle: Bundle) -> None:
    with simulated_gpu("cuda") as (_, simulation):
        with pytest.raises(BackendError, match="no backend works on the device 'cuda'.*'cpu'$"):
            foveate.load(bundle.root, device="cuda")
        assert simulation.live_bytes["device"] == 0


def test_a_backend_that_needs_a_gpu_is_not_replaced_where_there_is_none(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="the GPU 0 cannot be used"):
        foveate.load(bundle.root, backend="tensorrt")
