# SPDX-License-Identifier: Apache-2.0
"""Stages as compiled plans of TensorRT or TensorRT for RTX.

Each binding has an execution context of its own, since a context has the shapes and addresses of
its runs. The contexts that an engine makes for one stream share their device memory, because runs
follow each other there. Those of different streams may run at the same time and share none: levels
of a pyramid on one stream take the memory of the largest level, and on several streams the sum.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from foveate.errors import BundleError, OptionError
from foveate.kernels.plugins.library import library_path
from foveate.runtime.devices.cuda_memory import cuda_buffer
from foveate.runtime.devices.cuda_streams import cuda_stream
from foveate.runtime.engines.catalogue import find_plans
from foveate.system.tensorrt import check_driver, find_runtime, import_library
from foveate.system.tensorrt_library import Library

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from foveate.bundle import Bundle
    from foveate.bundle.manifest import StageSpec
    from foveate.runtime.devices import Buffer, Device, Stream
    from foveate.runtime.engines.catalogue import Plan, StagePlans
    from foveate.runtime.engines.engine import Engine
    from foveate.system.tensorrt_library import LoadedPlan

_BYTE = np.dtype(np.uint8)
_TYPES = {"float32": "FLOAT", "float16": "HALF", "int32": "INT32", "int64": "INT64"}


def open_tensorrt_engines(bundle: Bundle, device: Device, target: str) -> dict[str, Engine]:
    """Create the engines of all networks of a bundle from its compiled plans.

    A plan is loaded when an image first needs it.

    Args:
        bundle: Bundle with the plans.
        device: GPU that runs them; it must outlive the engines.
        target: ``"tensorrt"`` or ``"tensorrt-rtx"``.

    Returns:
        The engine of each stage, which the caller closes.

    Raises:
        OptionError: The device is not a GPU.
        MissingExtraError: The library is not installed.
        BackendError: The library does not start, or is for a later CUDA than the driver; a stage has
            no plan that runs on this machine; or TensorRT refuses the plugin library.
    """
    architecture = getattr(device, "architecture", None)
    if architecture is None:
        raise OptionError(
            f"the backend {target!r} runs on a GPU, found the device {device.name!r}",
            remedy="use --device cuda, or --backend onnxruntime",
        )
    installed = find_runtime(target)
    check_driver(installed)
    stages = find_plans(bundle, installed, architecture)
    library = Library(import_library(installed.target))
    used = {plan.metadata.key.plugins for one in stages.values() for plan in one.plans}
    for sources in sorted(used - {None}, key=str):
        library.load_plugins(library_path(str(sources), architecture))
    specs = bundle.manifest.stages
    return {
        stage: TensorRTEngine(specs[stage], plans, library, device)
        for stage, plans in stages.items()
    }


class TensorRTEngine:
    """A stage as compiled plans; each binding takes the narrowest one that accepts its shapes.

    A plan computes all rows of its shape. Rows that do not exist are computed too, and never read.

    Args:
        spec: Inputs and outputs of the stage.
        plans: Plans of the stage.
        library: Library that runs them.
        device: GPU of the plans and of the memory that contexts work in.

    Attributes:
        plans: Plans of the stage.
    """

    capturable = True
    rows_at_once = None

    def __init__(
        self, spec: StageSpec, plans: StagePlans, library: Library, device: Device
    ) -> None:
        self.inputs = spec.inputs
        self.outputs = spec.outputs
        self._spec = spec
        self.plans = plans
        self._library = library
        self._device = device
        self._loaded: dict[Path, LoadedPlan] = {}
        self._memory: WeakKeyDictionary[Stream, Buffer] = WeakKeyDictionary()

    def rows_for(self, rows: int) -> int:
        """Return the smallest number of rows, at least ``rows``, that a plan takes."""
        varying = next((one.name for one in self.inputs if isinstance(one.shape[0], str)), None)
        return rows if varying is None else self.plans.rows_for(varying, rows)

    def bind(
        self,
        bindings: Mapping[str, Buffer],
        stream: Stream,
        *,
        rows: Buffer | None = None,
        first: int = 0,
    ) -> Callable[[], None]:
        """Prepare runs on the same buffers; see :class:`foveate.runtime.engines.Engine`.

        The first run must not be recorded, since TensorRT prepares the context in it.

        Raises:
            NoPlanError: No plan accepts the shapes.
            BackendError: TensorRT refuses the plan, a shape, an address or a run.
        """
        del rows, first  # see the class
        plan, profile = self._find(bindings)
        memory = self._take_memory(stream, plan.memory_bytes(profile))
        context = self._new_context(plan, profile, bindings, stream)
        if memory is not None:
            context.set_device_memory(cuda_buffer(memory).address, memory.shape[0])
        what = f"the engine {plan.name!r} cannot be enqueued"
        return partial(self._run, what, context, cuda_stream(stream).handle, memory)

    def of_plan(self, plan: Plan) -> TensorRTEngine:
        """Return an engine that runs one of the plans only, which the caller closes."""
        plans = replace(self.plans, plans=[plan])
        return TensorRTEngine(self._spec, plans, self._library, self._device)

    def close(self) -> None:
        """Release the plans; all runs must be done. Closing twice does nothing."""
        for plan in self._loaded.values():
            plan.close()
        self._loaded.clear()
        self._memory.clear()

    def _find(self, bindings: Mapping[str, Buffer]) -> tuple[LoadedPlan, int]:
        """Return the loaded plan for some shapes, and the number of its profile."""
        shapes = {spec.name: bindings[spec.name].shape for spec in self.inputs}
        plan, profile = self.plans.find(shapes, self._loaded)
        if plan.path not in self._loaded:
            record = plan.metadata
            compatible = bool(record.key.options.get("version_compatible"))
            loaded = self._library.load(plan.path, record.name, version_compatible=compatible)
            self._check_tensors(loaded, plan.path)
            self._loaded[plan.path] = loaded
        return self._loaded[plan.path], profile

    def _check_tensors(self, plan: LoadedPlan, file: Path) -> None:
        expected = {spec.name: _TYPES[spec.dtype] for spec in (*self.inputs, *self.outputs)}
        found = plan.tensors()
        if found != expected:
            raise BundleError(
                f"a plan has the tensors {_list(found)}, the manifest lists {_list(expected)}",
                file=file,
                remedy=f"run: {self.plans.command}",
            )

    def _take_memory(self, stream: Stream, size: int) -> Buffer | None:
        """Return the memory of a stream, or larger memory in its place if it is too small."""
        memory = self._memory.get(stream)
        if size and (memory is None or memory.shape[0] < size):
            memory = self._memory[stream] = self._device.allocate((size,), _BYTE)
        return memory

    def _new_context(
        self, plan: LoadedPlan, profile: int, bindings: Mapping[str, Buffer], stream: Stream
    ) -> Any:
        """Return a context with a profile, shapes and addresses."""
        require, what = self._library.require, f"the engine {plan.name!r}"
        context = plan.new_context()
        choose = context.set_optimization_profile_async
        require(
            f"{what} refuses its profile {profile}", choose, profile, cuda_stream(stream).handle
        )
        for spec in self.inputs:
            shape = bindings[spec.name].shape
            require(
                f"{what} refuses {spec.name} {shape}", context.set_input_shape, spec.name, shape
            )
        for name, buffer in bindings.items():
            set_address = context.set_tensor_address
            require(
                f"{what} refuses the address of {name}",
                set_address,
                name,
                cuda_buffer(buffer).address,
            )
        require(f"{what} lacks a shape", lambda: not context.infer_shapes())
        for spec in self.outputs:
            shape = tuple(context.get_tensor_shape(spec.name))
            assert shape == bindings[spec.name].shape, f"{what} writes {spec.name} {shape}"
        return context

    def _run(self, what: str, context: Any, stream: int, memory: Buffer | None) -> None:
        """Enqueue a run of a context on a stream; the context works in the memory."""
        del memory  # held only so that it lives as long as the run
        self._library.require(what, context.execute_async_v3, stream)


def _list(tensors: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in sorted(tensors.items()))
