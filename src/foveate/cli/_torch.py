# SPDX-License-Identifier: Apache-2.0
"""The backend ``torch``: the networks of a bundle in PyTorch, which the runtime does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from foveate.bundle import Bundle
    from foveate.runtime import Pipeline, PipelineOptions
    from foveate.runtime.devices import Device
    from foveate.runtime.engines import Engine


def check_device_and_backend(device: str, backend: str) -> None:
    """Check the values of two options, of which the runtime knows all but ``torch``.

    Raises:
        OptionError: One is unknown.
    """
    from foveate.runtime.loading import BACKENDS, DEVICES, check_choice

    check_choice("device", device, DEVICES)
    check_choice("backend", backend, (*BACKENDS, "torch"))


def load_pipeline(
    bundle: str | Path, device: str, backend: str, options: PipelineOptions
) -> Pipeline:
    """Return the pipeline of a bundle, which may run PyTorch.

    Raises:
        FoveateError: See ``foveate.load``; or the networks cannot be read back from the bundle.
    """
    from foveate.bundle import Bundle
    from foveate.runtime import Pipeline, load
    from foveate.runtime.loading import open_device

    check_device_and_backend(device, backend)
    if backend != "torch":
        return load(bundle, device=device, backend=backend, options=options)
    opened = Bundle.open(bundle)
    place, engines = open_torch_parts(opened, open_device(device), options)
    return Pipeline(opened, engines, device=place, options=options)


def open_torch_parts(
    bundle: Bundle, device: Device, options: PipelineOptions
) -> tuple[Device, Mapping[str, Engine]]:
    """Return a device, and engines that run the networks of a bundle in PyTorch on it.

    If an engine cannot be opened, the device is closed.

    Raises:
        BackendError: PyTorch does not work on the device.
        ModelError: The networks cannot be read back from the bundle.
    """
    import torch

    from foveate.export.execution.torch_cuda import open_torch_engines
    from foveate.export.to_onnx.bundle_weights import cascade_from_bundle

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        return device, open_torch_engines(cascade_from_bundle(bundle), bundle, device)
    except BaseException:
        device.close()
        raise
