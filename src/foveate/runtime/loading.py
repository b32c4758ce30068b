# SPDX-License-Identifier: Apache-2.0
"""Loading a pipeline by the name of a bundle."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from foveate.bundle import Bundle, read_bundle
from foveate.errors import OptionError
from foveate.runtime.devices import CpuDevice
from foveate.runtime.options import PipelineOptions
from foveate.runtime.pipeline import Pipeline

if TYPE_CHECKING:
    from foveate.runtime.devices import Device
    from foveate.runtime.engines import Engine

DEVICES = ("auto", "cpu")
# ONNX Runtime's provider for each backend.
BACKENDS = {"auto": "cpu", "onnxruntime": "cpu", "onnxruntime-cuda": "cuda"}


def load(
    bundle: str | os.PathLike[str] = "mini",
    *,
    device: str = "auto",
    backend: str = "auto",
    options: PipelineOptions | None = None,
) -> Pipeline:
    """Load a bundle as a pipeline.

    Args:
        bundle: Name of a shipped bundle, or a directory.
        device: Device that runs the operations between the engines: ``"auto"`` or ``"cpu"``.
        backend: Backend of the engines: ``"onnxruntime"`` on the CPU, ``"onnxruntime-cuda"`` on an
            NVIDIA GPU, or ``"auto"``, which stands for ``"onnxruntime"``.
        options: Options of the pipeline; the defaults if ``None``.

    Returns:
        A pipeline, which the caller closes.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        BackendError: The backend does not work on this machine.
        OptionError: There is no such device or backend.
    """
    options = options or PipelineOptions()
    opened_device = open_device(device)
    opened, engines = read_bundle(
        bundle, lambda opened: (opened, open_engines(opened, backend, options.threads))
    )
    return Pipeline(opened, engines, device=opened_device, options=options)


def open_device(device: str) -> Device:
    """Return the device of this name.

    Raises:
        OptionError: There is no such device.
    """
    _check_choice("device", device, DEVICES)
    return CpuDevice()


def open_engines(bundle: Bundle, backend: str, threads: int | None = None) -> dict[str, Engine]:
    """Create the engines of all networks of a bundle, which the caller closes.

    Raises:
        BundleError: A network cannot be read.
        BackendError: The backend does not work on this machine.
        OptionError: There is no such backend.
    """
    _check_choice("backend", backend, tuple(BACKENDS))
    # ONNX Runtime takes a second to import, which a pipeline of other engines need not wait for.
    from foveate.runtime.engines.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415 - see above

    lock = threading.Lock()

    def open_engine(stage: str) -> Engine:
        return OnnxRuntimeEngine(
            bundle.stage_path(stage),
            file=files[stage].fileno(),
            threads=threads,
            provider=BACKENDS[backend],
            lock=lock,
        )

    stages = tuple(bundle.manifest.networks)
    # All files are opened before any is read, so that the bundle may be replaced meanwhile.
    with ExitStack() as stack, ThreadPoolExecutor(len(stages)) as pool:
        files = {stage: stack.enter_context(bundle.open_stage(stage)) for stage in stages}
        return dict(zip(stages, pool.map(open_engine, stages), strict=True))


def _check_choice(kind: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"there is no {kind} {value!r}", remedy=f"use {', '.join(choices)}")
