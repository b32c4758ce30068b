# SPDX-License-Identifier: Apache-2.0
"""Loading a pipeline by the name of a bundle."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from foveate.bundle import Bundle, read_bundle
from foveate.errors import OptionError
from foveate.runtime.devices import CpuDevice
from foveate.runtime.options import PipelineOptions
from foveate.runtime.pipeline import Pipeline

if TYPE_CHECKING:
    from foveate.runtime.devices import Device
    from foveate.runtime.engines import Engine

DEVICES = ("auto", "cpu", "cuda")
BACKENDS = ("auto", "onnxruntime", "onnxruntime-tensorrt")


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
        device: Device of the whole pipeline: ``"cpu"``, ``"cuda"`` (an NVIDIA GPU), or ``"auto"``,
            which stands for ``"cpu"``.
        backend: Backend of the engines, all of which run on the device: ``"onnxruntime"``,
            ``"onnxruntime-tensorrt"`` (ONNX Runtime with TensorRT, on a GPU only), or ``"auto"``,
            which stands for ``"onnxruntime"``.
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
        bundle,
        lambda opened: (opened, open_engines(opened, opened_device, backend, options.threads)),
    )
    return Pipeline(opened, engines, device=opened_device, options=options)


def open_device(device: str) -> Device:
    """Return the device of this name.

    Raises:
        OptionError: There is no such device.
        BackendError: It does not work on this machine.
    """
    _check_choice("device", device, DEVICES)
    return _open_cuda() if device == "cuda" else CpuDevice()


def _open_cuda() -> Device:
    # Its packages are optional, and take a while to import.
    from foveate.runtime.devices.cuda import CudaDevice  # noqa: PLC0415 - see above

    return CudaDevice()


def open_engines(
    bundle: Bundle, device: Device, backend: str, threads: int | None = None
) -> dict[str, Engine]:
    """Create the engines of all networks of a bundle, which the caller closes.

    Args:
        bundle: Bundle with the networks.
        device: Device of the pipeline, which must outlive the engines.
        backend: Backend of the engines.
        threads: Number of threads per engine on the CPU; by default one per usable core.

    Raises:
        BundleError: A network cannot be read.
        BackendError: The backend does not work on this machine.
        OptionError: There is no such backend, or it does not run on the device.
    """
    _check_choice("backend", backend, BACKENDS)
    # ONNX Runtime takes a second to import, which a pipeline of other engines need not wait for.
    from foveate.runtime.engines.onnxruntime_engines import open_onnxruntime_engines  # noqa: PLC0415 - see above

    return open_onnxruntime_engines(
        bundle, device, tensorrt=backend == "onnxruntime-tensorrt", threads=threads
    )


def _check_choice(kind: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"there is no {kind} {value!r}", remedy=f"use {', '.join(choices)}")
