# SPDX-License-Identifier: Apache-2.0
"""All stages of a bundle as engines of ONNX Runtime, for the device of the pipeline."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from foveate.errors import OptionError
from foveate.runtime.devices import CpuDevice
from foveate.runtime.engines.onnxruntime import OnnxRuntimeEngine
from foveate.runtime.engines.onnxruntime_cuda import OnnxRuntimeCudaEngine
from foveate.runtime.engines.primary_context import check_primary_context
from foveate.system.executors import submit

if TYPE_CHECKING:
    from collections.abc import Callable

    from foveate.bundle import Bundle
    from foveate.runtime.devices import Device
    from foveate.runtime.engines.engine import Engine


def open_onnxruntime_engines(
    bundle: Bundle, device: Device, *, tensorrt: bool = False, threads: int | None = None
) -> dict[str, Engine]:
    """Create the engines of all networks of a bundle, which the caller closes.

    Args:
        bundle: Bundle with the networks.
        device: Device of the pipeline; a GPU must outlive the engines.
        tensorrt: Whether ONNX Runtime compiles the networks with TensorRT, which needs a GPU.
        threads: Number of threads per engine on the CPU; by default one per usable core.

    Raises:
        BundleError: A network cannot be read.
        BackendError: ONNX Runtime does not work on the device.
        OptionError: ``tensorrt`` is set, and the device is no GPU.
    """
    stages = tuple(bundle.manifest.networks)
    makers: list[Callable[..., Engine]]
    if isinstance(device, CpuDevice):
        if tensorrt:
            raise OptionError(
                f"the backend 'onnxruntime-tensorrt' runs on a GPU, found the device {device.name!r}",
                remedy="use --device cuda, or --backend onnxruntime",
            )
        makers = [partial(OnnxRuntimeEngine, threads=threads, lock=threading.Lock())] * len(stages)
    else:
        gpu = check_primary_context(device, "ONNX Runtime")
        # The streams are made in this thread: a context of PyCUDA is current in no other.
        makers = [
            partial(OnnxRuntimeCudaEngine, stream=device.stream(), gpu=gpu, tensorrt=tensorrt)
            for _ in stages
        ]
    # All files are opened before any is read, so that the bundle may be replaced meanwhile.
    with ExitStack() as stack, ThreadPoolExecutor(len(stages)) as pool:
        files = [stack.enter_context(bundle.open_stage(stage)).fileno() for stage in stages]
        engines = [
            submit(pool, partial(make, bundle.stage_path(stage), file=file))
            for make, stage, file in zip(makers, stages, files, strict=True)
        ]
        try:
            return {stage: one.result() for stage, one in zip(stages, engines, strict=True)}
        except BaseException:
            for one in engines:  # before the caller releases the streams that they use
                if one.exception() is None:
                    one.result().close()
            raise
