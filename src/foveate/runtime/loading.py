# SPDX-License-Identifier: Apache-2.0
"""Loading a pipeline by the name of a bundle."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from foveate.bundle import Bundle, read_bundle
from foveate.errors import BackendError, OptionError
from foveate.runtime.devices import CpuDevice
from foveate.runtime.options import PipelineOptions
from foveate.runtime.pipeline import Pipeline
from foveate.runtime.tiling import Tiling
from foveate.system.gpu import current_gpu

if TYPE_CHECKING:
    from foveate.runtime.devices import Device
    from foveate.runtime.engines import Engine

DEVICES = ("auto", "cpu", "cuda", "pycuda")
BACKENDS = ("auto", "tensorrt", "tensorrt-rtx", "onnxruntime", "onnxruntime-tensorrt")

_logger = logging.getLogger(__name__)


def load(
    bundle: str | os.PathLike[str] = "mini",
    *,
    device: str = "auto",
    backend: str = "auto",
    preset: str | None = None,
    options: PipelineOptions | None = None,
) -> Pipeline:
    """Load a bundle as a pipeline.

    Args:
        bundle: Name of a shipped bundle, a directory, or a bundle on the Hugging Face Hub such as
            ``"hf://owner/name@v1"``; see ``foveate.bundle.hub.HubName``.
        device: Device of the pipeline: ``"cpu"``; ``"cuda"``, the first NVIDIA GPU; ``"pycuda"``,
            the GPU whose PyCUDA context is current; or ``"auto"``, a GPU if it works and has
            engines, and the CPU otherwise. The choice is logged with its reason.
        backend: Backend of the engines: ``"onnxruntime"`` on any device; on a GPU also
            ``"tensorrt"`` and ``"tensorrt-rtx"``, which run the plans that ``foveate compile``
            made, and ``"onnxruntime-tensorrt"``; or ``"auto"``, the first of these that works.
        preset: Name of a preset of the bundle, such as ``"fast"``; ``options`` override its values.
        options: Options of the pipeline; the defaults if ``None``.

    Returns:
        A pipeline, which the caller closes.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        ServerError: The Hub cannot be reached, or a download failed.
        BackendError: The device or the backend does not work on this machine.
        OptionError: An argument has the wrong type; there is no such device, backend or preset; or
            they do not fit each other.
    """
    options = PipelineOptions() if options is None else options
    if not isinstance(options, PipelineOptions):
        what = f"options must be PipelineOptions, found {type(options).__name__}"
        raise OptionError(what, remedy="for example foveate.PipelineOptions(top_k=50)")
    if preset is not None:
        if options.preset not in (None, preset):
            what = f"there are two presets, {preset!r} and {options.preset!r} in options"
            raise OptionError(what, remedy="pass one of them")
        options = replace(options, preset=preset)
    opened, place, engines = read_bundle(
        bundle, lambda opened: (opened, *open_parts(opened, device, backend, options))
    )
    return Pipeline(opened, engines, device=place, options=options)


def open_parts(
    bundle: Bundle, device: str, backend: str, options: PipelineOptions
) -> tuple[Device, dict[str, Engine]]:
    """Open a device, and the engines of all networks of a bundle on it; the caller closes both.

    Arguments and errors are those of ``load``.
    """
    check_choice("device", device, DEVICES)
    check_choice("backend", backend, BACKENDS)
    Tiling.of(options, options.applied_to(bundle.manifest))  # checks before engines are opened
    if device == "auto":
        return _open_best(bundle, backend, options)
    place = open_device(device, debug=options.debug)
    try:
        return place, open_engines(bundle, place, backend, options.threads)
    except BaseException:
        place.close()
        raise


def open_device(device: str, *, debug: bool = False) -> Device:
    """Open a device by its name; ``"auto"`` stands for the CPU.

    Args:
        device: Name of the device.
        debug: See ``PipelineOptions``.

    Raises:
        BackendError: It does not work on this machine.
    """
    # Each device imports its own libraries, which other devices need not have.
    if device == "cuda":
        from foveate.runtime.devices.cuda import CudaDevice  # noqa: PLC0415 - see above

        return CudaDevice(debug=debug)
    if device == "pycuda":
        from foveate.runtime.devices.pycuda import PycudaDevice  # noqa: PLC0415 - see above

        return PycudaDevice(debug=debug)
    return CpuDevice()


def open_engines(
    bundle: Bundle, device: Device, backend: str = "auto", threads: int | None = None
) -> dict[str, Engine]:
    """Open the engines of all networks of a bundle on a device; the caller closes them.

    Raises:
        BundleError: A network cannot be read.
        BackendError: The backend does not work on this machine.
        OptionError: The backend does not run on this device.
    """
    candidates = device.backends if backend == "auto" else (backend,)
    failures = []
    for one in candidates:
        try:
            return _open_backend(bundle, device, one, threads)
        except BackendError as error:
            if len(candidates) == 1:
                raise
            failures.append(f"{one}: {error}")
    raise BackendError(
        f"no backend works on the device {device.name!r} ({'; '.join(failures)})",
        remedy="make one of them work, or use the device 'cpu'",
    )


def check_choice(kind: str, value: str, choices: tuple[str, ...]) -> None:
    """Check a value of an option.

    Raises:
        OptionError: It is not one of the choices.
    """
    if value not in choices:
        raise OptionError(f"there is no {kind} {value!r}", remedy=f"use {', '.join(choices)}")


def _open_best(
    bundle: Bundle, backend: str, options: PipelineOptions
) -> tuple[Device, dict[str, Engine]]:
    """Open a GPU if there is one that works with this backend, and otherwise the CPU."""
    gpu, on_cpu = current_gpu(), backend in ("auto", *CpuDevice.backends)
    if gpu is None and on_cpu:
        return open_parts(bundle, "cpu", backend, options)
    device = "pycuda" if _is_pycuda_current() else "cuda"
    try:
        parts = open_parts(bundle, device, backend, options)
    except BackendError as error:
        if not on_cpu:
            raise
        _logger.info("device cpu, since the GPU cannot be used: %s", error)
        return open_parts(bundle, "cpu", backend, options)
    _logger.info("device %s: %s", device, gpu.name if gpu else "")
    return parts


def _is_pycuda_current() -> bool:
    """Return whether this thread has a context of PyCUDA, which must not be replaced by ours."""
    driver = sys.modules.get("pycuda.driver")
    if driver is None:
        return False
    try:
        return driver.Context.get_current() is not None
    except driver.Error:  # PyCUDA is imported and not initialized
        return False


def _open_backend(
    bundle: Bundle, device: Device, backend: str, threads: int | None
) -> dict[str, Engine]:
    # ONNX Runtime takes a second to import, which a pipeline of other engines need not wait for.
    if backend in ("tensorrt", "tensorrt-rtx"):
        from foveate.runtime.engines.tensorrt import open_tensorrt_engines  # noqa: PLC0415 - see above

        return open_tensorrt_engines(bundle, device, backend)
    from foveate.runtime.engines.onnxruntime_engines import open_onnxruntime_engines  # noqa: PLC0415 - see above

    tensorrt = backend == "onnxruntime-tensorrt"
    return open_onnxruntime_engines(bundle, device, tensorrt=tensorrt, threads=threads)
