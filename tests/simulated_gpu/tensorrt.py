# SPDX-License-Identifier: Apache-2.0
"""TensorRT on the simulated driver: the names that the engines use, as strict as the real ones.

A plan is an ONNX file that lists its profiles, its GPUs and its plugin library (see
``tests.samples.plans``). A context runs it with ONNX Runtime on the memory of the simulation, as a
piece of work of the stream, and overwrites its device memory like a real one.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from weakref import ReferenceType, WeakSet, ref

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto
from tests.simulated_gpu.driver.simulation import Simulation
from tests.simulated_gpu.driver.work import Task

from foveate.bundle.engine_key import ShapeRange
from foveate.bundle.schema import parse

_KINDS = {TensorProto.FLOAT: ("FLOAT", np.float32), TensorProto.FLOAT16: ("HALF", np.float16)}


class Logger:
    """The logger that programs derive their own from."""

    INTERNAL_ERROR, ERROR = 0, 1

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError  # programs derive loggers with a method of their own


class SimulatedTensorRT(ModuleType):
    """A module like ``tensorrt``, or like ``tensorrt_rtx`` if it compiles kernels where it runs.

    Args:
        simulation: GPU that it uses.
        rtx: Whether it is like ``tensorrt_rtx``.

    Attributes:
        contexts: Execution contexts that exist.
        destroyed_early: Engines of the contexts that were destroyed before the end of their run.
        kernels: Content of the cache of kernels of each configuration, if ``rtx``.
    """

    ILogger = Logger
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user", STATIC="static")
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(LAZY="lazy", EAGER="eager")
    LayerInformationFormat = SimpleNamespace(ONELINE="line", JSON="json")

    def __init__(self, simulation: Simulation, *, rtx: bool = False) -> None:
        super().__init__("tensorrt_rtx" if rtx else "tensorrt")
        self.simulation, self.rtx = simulation, rtx
        self.contexts: WeakSet[Context] = WeakSet()
        self.destroyed_early: list[str] = []
        self.kernels: list[bytes] = []
        self.libraries: set[str] = set()
        self.runtimes: WeakSet[Runtime] = WeakSet()
        self.logger: ReferenceType[Logger] | None = None

    def Runtime(self, logger: Logger) -> Runtime:  # noqa: N802 - the name of TensorRT
        if not self.runtimes:  # there is one logger at a time, that of the first runtime
            self.logger = ref(logger)
        return Runtime(self, logger)

    def get_plugin_registry(self) -> SimpleNamespace:
        return SimpleNamespace(load_library=self._load_library)

    def _load_library(self, plugin_path: str) -> object | None:
        stamp = Path(plugin_path).with_suffix(".json")
        if not stamp.exists():
            self.log(f"Unable to open library: {plugin_path}")
            return None
        sources = json.loads(stamp.read_text())["sources"]
        if sources in self.libraries:
            self.log("Plugin creator is already registered")
            return None
        self.libraries.add(sources)
        time.sleep(0.05)  # other threads run meanwhile
        return object()

    def log(self, message: str) -> bool:
        """Log an error and return False."""
        logger = None if self.logger is None else self.logger()
        assert logger is not None, "the logger of the first runtime is gone"
        logger.log(Logger.ERROR, message)
        return False


class Runtime:
    engine_host_code_allowed = False

    def __init__(self, trt: SimulatedTensorRT, logger: Logger) -> None:
        self._trt = trt
        self._logger = logger  # alive as long as this runtime
        trt.runtimes.add(self)

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        trt = self._trt
        if not trt.simulation.current:
            trt.log("CUDA error 201: no context is current in this thread")
            return None
        try:
            model = onnx.load_from_string(serialized_engine)
            entries = {one.key: json.loads(one.value) for one in model.metadata_props}
            archs, plugins, profiles = (entries[one] for one in ("archs", "plugins", "profiles"))
        except Exception:  # noqa: BLE001 - whatever it is, it is no plan
            trt.log("Serialization assertion failed: magic tag does not match")
            return None
        if trt.simulation.architecture not in archs:
            trt.log(f"The engine plan file is generated on an incompatible device: {archs[0]}")
            return None
        if entries["has_code"] and not self.engine_host_code_allowed:
            trt.log("The plan contains host code, which is not allowed")
            return None
        if plugins is not None and plugins not in trt.libraries:
            trt.log("Cannot find plugin, and no plugin library was loaded")
            return None
        return Engine(trt, model, profiles)


class Engine:
    def __init__(self, trt: SimulatedTensorRT, model: onnx.ModelProto, profiles: Any) -> None:
        self.trt, self.graph = trt, model.graph
        self.name = model.graph.output[0].name
        self.profiles = [
            {name: parse(ShapeRange, one) for name, one in profile.items()} for profile in profiles
        ]
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        content = model.SerializeToString()
        self.session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        self.tensors = {one.name: one for one in [*model.graph.input, *model.graph.output]}
        self.inputs = [one.name for one in model.graph.input]
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return str(list(self.tensors)[index])

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=_KINDS[self.tensors[name].type.tensor_type.elem_type][0])

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        largest = [np.prod(one.maximum) for one in self.profiles[profile_index].values()]
        return 256 * int(1 + sum(largest) // 64)

    def create_engine_inspector(self) -> SimpleNamespace:
        layers = {"Layers": [node.op_type for node in self.graph.node]}
        return SimpleNamespace(get_engine_information=lambda _: json.dumps(layers))

    def create_runtime_config(self) -> Config:
        return RtxConfig(self.trt) if self.trt.rtx else Config()

    def create_execution_context(self, runtime_config: Config) -> Context | None:
        assert runtime_config.strategy == "user", "the context would allocate memory by itself"
        if isinstance(runtime_config, RtxConfig):
            chosen = runtime_config.dynamic_shapes_kernel_specialization_strategy
            assert chosen == "eager", "a graph would hold kernels that are replaced later"
        if not self.trt.simulation.current:
            self.trt.log("CUDA error 201: no context is current in this thread")
            return None
        return Context(self)


class Config:
    strategy = "static"

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy


class RtxConfig(Config):
    dynamic_shapes_kernel_specialization_strategy = "lazy"

    def __init__(self, trt: SimulatedTensorRT) -> None:
        self._trt = trt

    def create_runtime_cache(self) -> SimpleNamespace:
        return SimpleNamespace(deserialize=self._deserialize, serialize=lambda: b"kernels")

    def set_runtime_cache(self, cache: SimpleNamespace) -> bool:
        return callable(cache.serialize)

    def _deserialize(self, blob: bytes) -> bool:
        self._trt.kernels.append(blob)
        return blob == b"kernels"


class Context:
    def __init__(self, engine: Engine) -> None:
        self._engine, self._trt = engine, engine.trt
        self._profile: int | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._memory: tuple[int, int] | None = None
        self._ready = False  # whether it has run with these shapes
        self._enqueued: frozenset[Task] = frozenset()  # the last run
        self._trt.contexts.add(self)

    def __del__(self) -> None:
        # A real context releases memory and events here, which a run that goes on uses.
        if not all(task.done for task in self._enqueued):
            self._trt.destroyed_early.append(self._engine.name)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if profile_index >= len(self._engine.profiles):
            self._trt.log(f"Profile index {profile_index} is out of range")
            raise RuntimeError("Error in set optimization profile async.")
        self._require_context()
        self._profile, self._shapes, self._ready = profile_index, {}, False
        self._trt.simulation.enqueue(stream_handle, "engine", "profile", lambda: None)
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if name not in self._engine.inputs or self._profile is None:
            return self._trt.log(f"{name!r} is no input, or no profile is set")
        if not self._engine.profiles[self._profile][name].contains(tuple(shape)):
            return self._trt.log(f"Set dimension {list(shape)} for tensor {name} is out of range")
        self._shapes[name], self._ready = tuple(shape), False
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine.tensors:
            return self._trt.log(f"There is no tensor {name!r}")
        if not memory or memory % 256:
            return self._trt.log(f"The address of {name} is not a multiple of 256")
        self._addresses[name] = memory
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        assert self._profile is not None, "the profile decides how much memory is needed"
        need = self._engine.get_device_memory_size_for_profile_v2(self._profile)
        if memory % 256 or size < need:
            self._trt.log(f"Device memory of {size} bytes at {memory:#x}, expected {need}")
            return
        self._memory = (memory, need)

    def infer_shapes(self) -> list[str]:
        return [name for name in self._engine.inputs if name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        lengths: dict[str, int] = {}
        for one in self._engine.graph.input:
            dims = one.type.tensor_type.shape.dim
            lengths |= {
                dim.dim_param: side for dim, side in zip(dims, self._shapes[one.name], strict=True)
            }
        dims = self._engine.tensors[name].type.tensor_type.shape.dim
        return tuple(
            one.dim_value or eval(re.sub(r"\s", "", one.dim_param), {}, lengths)  # noqa: S307 - our own bundle
            for one in dims
        )

    def _require_context(self) -> None:
        # The runtime API of CUDA would make the primary context of the first GPU current.
        assert self._trt.simulation.current, "no context is current in this thread"

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, simulation = self._engine, self._trt.simulation
        self._require_context()
        missing = engine.tensors.keys() - self._addresses.keys()
        if missing or self.infer_shapes() or self._memory is None:
            return self._trt.log(f"Not specified: {sorted(missing) or 'shapes or device memory'}")
        capture = simulation.stream(stream_handle).capture
        if capture is not None and not self._ready:
            capture.broken = True  # it allocates in its first run with these shapes
            return self._trt.log("Cuda Runtime (operation not permitted when stream is capturing)")
        self._ready = True
        addresses, (start, size) = dict(self._addresses), self._memory
        shapes = {name: self.get_tensor_shape(name) for name in engine.tensors}

        def array(name: str, *, write: bool) -> np.ndarray:
            dtype = _KINDS[engine.tensors[name].type.tensor_type.elem_type][1]
            count = int(np.prod(shapes[name])) * np.dtype(dtype).itemsize
            found = simulation.memory.bytes_at(addresses[name], count, write=write)
            return found.view(dtype).reshape(shapes[name])

        def run() -> None:
            simulation.memory.bytes_at(start, size, write=True)[...] = 0x7F
            names = [one.name for one in engine.graph.output]
            given = {name: array(name, write=False).copy() for name in engine.inputs}
            for name, result in zip(names, engine.session.run(names, given), strict=True):
                array(name, write=True)[...] = result

        simulation.enqueue(stream_handle, "engine", engine.name, run)
        if capture is None:
            self._enqueued = simulation.stream(stream_handle).ends
        return True
