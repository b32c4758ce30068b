# SPDX-License-Identifier: Apache-2.0
"""From a bundle's name to a pipeline."""

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
    """Open a bundle and make its stages ready to run.

    Args:
        bundle: Name of a shipped bundle, or a directory.
        device: Where the operations between the engines run: ``"auto"`` or ``"cpu"``.
        backend: What runs the engines: ``"onnxruntime"`` on the CPU, ``"onnxruntime-cuda"`` on an
            NVIDIA GPU, or ``"auto"``, which is the first.
        options: What the user decides.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        BackendError: The backend does not work here.
        OptionError: There is no such device or backend.
    """
    options = options or PipelineOptions()
    opened_device = open_device(device)
    opened, engines = read_bundle(
        bundle, lambda opened: (opened, open_engines(opened, backend, options.threads))
    )
    return Pipeline(opened, engines, device=opened_device, options=options)


def open_device(device: str) -> Device:
    """Return the device of that name, for a pipeline that `load` does not make.

    Raises:
        OptionError: There is no such device.
    """
    _check_choice("device", device, DEVICES)
    return CpuDevice()


def open_engines(bundle: Bundle, backend: str, threads: int | None = None) -> dict[str, Engine]:
    """Make the engines of all networks of a bundle, for a pipeline that `load` does not make.

    Raises:
        BundleError: A network cannot be read.
        BackendError: The backend does not work here.
        OptionError: There is no such backend.
    """
    _check_choice("backend", backend, tuple(BACKENDS))
    # Here, so that a pipeline of other engines does not pay for the import.
    from foveate.runtime.engines.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415 - see above

    turn = threading.Lock()

    def open_engine(stage: str) -> Engine:
        return OnnxRuntimeEngine(
            bundle.stage_path(stage),
            file=files[stage].fileno(),
            threads=threads,
            provider=BACKENDS[backend],
            turn=turn,
        )

    stages = tuple(bundle.manifest.networks)
    # All are opened before any is read: from here on it does not matter if the bundle is replaced.
    with ExitStack() as stack, ThreadPoolExecutor(len(stages)) as pool:
        files = {stage: stack.enter_context(bundle.open_stage(stage)) for stage in stages}
        return dict(zip(stages, pool.map(open_engine, stages), strict=True))


def _check_choice(kind: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"there is no {kind} {value!r}", remedy=f"use {', '.join(choices)}")
