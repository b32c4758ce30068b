# SPDX-License-Identifier: Apache-2.0
"""The implementations of a bundle on a GPU, to be compared with a reference on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from foveate.errors import MissingExtraError
from foveate.export.checks.engine_run import EngineRun
from foveate.export.checks.verification import Subject
from foveate.runtime import Pipeline
from foveate.runtime.engines.tensorrt import TensorRTEngine, open_tensorrt_engines
from foveate.runtime.loading import open_device, open_engines
from foveate.system.gpu import current_gpu
from foveate.system.tensorrt import TARGETS

if TYPE_CHECKING:
    from foveate.bundle import Bundle
    from foveate.export.checks.verification import Run
    from foveate.runtime import PipelineOptions
    from foveate.runtime.devices import Device
    from foveate.runtime.engines import Engine

BACKENDS = {
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT for RTX",
}
"""What can run a bundle on a GPU, by the name on the command line."""


def gpu_backends(bundle: Bundle) -> list[str]:
    """Return the backends that may run a bundle on a GPU: all that need no compiled plans of it."""
    folder = bundle.root / "engines"
    return [one for one in BACKENDS if one not in TARGETS or any((folder / one).glob("*.plan"))]


@contextmanager
def open_subject(
    bundle: Bundle, device: str, backend: str, options: PipelineOptions
) -> Iterator[Subject]:
    """Open a bundle on a GPU.

    Args:
        bundle: Bundle under test.
        device: Name of the device.
        backend: One of ``gpu_backends``.
        options: Options of the pipeline.

    Raises:
        BackendError: There is no GPU, or the backend does not work on it.
    """
    place = open_device(device)
    try:
        engines = _open_engines(bundle, place, backend)
    except BaseException:
        place.close()
        raise
    gpu, lock = current_gpu(), threading.Lock()
    with (
        Pipeline(bundle, engines, device=place, options=options) as pipeline,
        ExitStack() as opened,
    ):
        stages = {
            stage: _runs(stage, engine, place, lock, opened) for stage, engine in engines.items()
        }
        name = f"{BACKENDS[backend]} on {gpu.name if gpu else device}"
        yield Subject(name=name, stages=stages, pipeline=pipeline)


def _open_engines(bundle: Bundle, device: Device, backend: str) -> dict[str, Engine]:
    if backend == "torch":
        return _open_torch_engines(bundle, device)
    if backend in TARGETS:
        return open_tensorrt_engines(bundle, device, backend)
    return open_engines(bundle, device, backend)


def _open_torch_engines(bundle: Bundle, device: Device) -> dict[str, Engine]:
    try:  # a GPU that runs compiled engines needs no PyTorch
        from foveate.export.execution.torch_cuda import open_torch_engines  # noqa: PLC0415 - see above
        from foveate.export.to_onnx.bundle_weights import cascade_from_bundle  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "export") from error
    # The networks are moved to the GPU, so they are not those of the reference.
    return open_torch_engines(cascade_from_bundle(bundle), bundle, device)


def _runs(
    stage: str, engine: Engine, device: Device, lock: threading.Lock, opened: ExitStack
) -> dict[str, Run]:
    """Return the runs of a stage: one for each compiled plan, or one for the stage."""
    if not isinstance(engine, TensorRTEngine):
        return {stage: EngineRun(engine, device, lock)}
    runs: dict[str, Run] = {}
    for plan in engine.plans.plans:
        alone = engine.of_plan(plan)
        opened.callback(alone.close)
        runs[plan.metadata.name] = EngineRun(alone, device, lock)
    return runs
