# SPDX-License-Identifier: Apache-2.0
"""The implementations of a bundle on a GPU, to be compared with a reference on the CPU."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import numpy as np

from foveate.arrays import Array
from foveate.bundle import Bundle
from foveate.bundle.manifest import TensorSpec
from foveate.errors import MissingExtraError
from foveate.export.checks.verification import Run, Subject
from foveate.runtime import Pipeline, PipelineOptions
from foveate.runtime.devices import Device, Mirror
from foveate.runtime.engines import Engine
from foveate.runtime.engines.engine import NoPlanError
from foveate.runtime.engines.tensorrt import TensorRTEngine, open_tensorrt_engines
from foveate.runtime.loading import open_device, open_engines
from foveate.system.gpu import current_gpu
from foveate.system.tensorrt import TARGETS

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
    if backend in TARGETS:
        return open_tensorrt_engines(bundle, device, backend)
    if backend != "torch":
        return open_engines(bundle, device, backend)
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
        return {stage: _run(engine, device, lock)}
    runs: dict[str, Run] = {}
    for plan in engine.plans.plans:
        alone = engine.of_plan(plan)
        opened.callback(alone.close)
        runs[plan.metadata.name] = _run(alone, device, lock)
    return runs


def _run(engine: Engine, device: Device, lock: threading.Lock) -> Run:
    """Return a function that runs an engine on arrays of the CPU.

    The lock is held during a run: the stages of a reference may run in several threads.
    """
    stream = device.stream()

    def mirror(spec: TensorSpec, like: Array) -> Mirror:
        """Allocate a tensor of the engine for an array of the reference, with padding rows."""
        rows = engine.rows_for(len(like)) if spec.has_rows else len(like)
        return device.mirror((rows, *like.shape[1:]), np.dtype(spec.dtype))

    def run(inputs: dict[str, Array], expected: Mapping[str, Array]) -> Mapping[str, Array] | None:
        with lock:
            given = {one.name: mirror(one, inputs[one.name]) for one in engine.inputs}
            for name, one in given.items():
                rows = len(inputs[name])
                one.array[:rows], one.array[rows:] = inputs[name], 0
                one.send(stream)
            found = {one.name: mirror(one, expected[one.name]) for one in engine.outputs}
            tensors = {name: one.buffer for name, one in (given | found).items()}
            try:
                enqueue = engine.bind(tensors, stream)
            except NoPlanError:  # no plan of the engine accepts the inputs
                stream.synchronize()  # before the memory is released
                return None
            enqueue()  # it owns what the run needs, so that it must outlive the run
            for one in found.values():
                one.fetch(stream)
            stream.synchronize()
            return {name: one.array[: len(expected[name])].copy() for name, one in found.items()}

    return run
