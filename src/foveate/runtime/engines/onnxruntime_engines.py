# SPDX-License-Identifier: Apache-2.0
"""All stages of a bundle as engines of ONNX Runtime, for the device of the pipeline."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from foveate.errors import OptionError
from foveate.runtime.devices import CpuDevice
from foveate.runtime.engines.onnxruntime import OnnxRuntimeEngine
from foveate.runtime.engines.onnxruntime_cuda import OnnxRuntimeCudaEngine
from foveate.runtime.engines.primary_context import check_primary_context

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
    make = _maker(device, threads, tensorrt=tensorrt)
    stages = tuple(bundle.manifest.networks)
    # All files are opened before any is read, so that the bundle may be replaced meanwhile.
    with ExitStack() as stack, ThreadPoolExecutor(len(stages)) as pool:
        files = [stack.enter_context(bundle.open_stage(stage)).fileno() for stage in stages]
        paths = map(bundle.stage_path, stages)
        return dict(zip(stages, pool.map(make, paths, files), strict=True))


def _maker(device: Device, threads: int | None, *, tensorrt: bool) -> Callable[..., Engine]:
    """Return a function that makes the engine of a path and a descriptor of the same file."""
    if isinstance(device, CpuDevice):
        if tensorrt:
            raise OptionError(
                f"the backend 'onnxruntime-tensorrt' runs on a GPU, found the device {device.name!r}",
                remedy="use --device cuda, or --backend onnxruntime",
            )
        lock = threading.Lock()
        return lambda path, file: OnnxRuntimeEngine(path, file=file, threads=threads, lock=lock)
    gpu = check_primary_context(device, "ONNX Runtime")
    return lambda path, file: OnnxRuntimeCudaEngine(
        path, device.stream(), gpu=gpu, file=file, tensorrt=tensorrt
    )
