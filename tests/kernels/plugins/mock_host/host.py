# SPDX-License-Identifier: Apache-2.0
"""The mock host of TensorRT plugins, and the two builds of the library that it loads.

One is what users build, by nvcc, for one architecture; without a GPU its kernels cannot run. In the
other the same plugins are linked with launchers and kernels that run on the CPU.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from foveate.errors import BackendError
from foveate.kernels.build import FOLDER, CodeCache
from foveate.kernels.plugins.build import (
    PLUGINS,
    build_library,
    find_headers,
    require_nvcc,
    source_digest,
    tensorrt_version,
)

HERE = Path(__file__).parent
ON_HOST = HERE.parents[1] / "host_build" / "cuda_on_host.h"
RECORDING = HERE / "launches_only.h"
ARCHITECTURE = "sm_75"

FLOAT32, FLOAT16, INT32, INT64 = 0, 1, 3, 8
LINEAR, HWC8, HWC = 0, 2, 8
EVERY = [(kind, form) for kind in (0, 1, 2, 3, INT64) for form in (*range(6), HWC)]
"""Types and formats that a tensor may have."""

KINDS = {"float32": 1, "int32": 5, "char": 6, "int64": 10, "float64": 2}
BUILD, RUNTIME = 0, 1


def what_is_missing() -> str:
    """Return why the library cannot be built on this machine, or an empty string."""
    try:
        require_nvcc()
        find_headers()
    except BackendError as error:
        return str(error)
    return ""


def _cached(name: str, sources: Sequence[Path], make: Any) -> Path:
    texts = [path.read_text(encoding="utf-8") for path in (Path(__file__), *sources)]
    version = ".".join(map(str, tensorrt_version(find_headers())))
    key = "\n".join([name, source_digest(), require_nvcc().version, version, *texts])
    return CodeCache.of_user().get(key, "so", make).path


def _run(*command: object) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stderr


def compile_device_library() -> Path:
    def make(target: Path) -> str:
        nvcc, headers = require_nvcc(), find_headers()
        build_library(target, architectures=[ARCHITECTURE], headers=headers, nvcc=nvcc)
        return ""

    return _cached("device", [], make)


def compile_host_library(words: Path = ON_HOST) -> Path:
    """Compile the plugins for the CPU; the header `words` replaces CUDA."""

    def make(target: Path) -> str:
        objects = []
        plugins = sorted(PLUGINS.glob("*/plugin.cpp"))
        for plugin in plugins:
            objects.append(target.with_name(f"{plugin.parent.name}.o"))
            _run(
                *("g++", "-c", "-x", "c++", "-std=c++17", "-O1", "-ffp-contract=off", "-fPIC"),
                *("-Wno-unknown-pragmas", "-include", words, "-I", FOLDER),
                *(plugin.with_name("launch.cu"), "-o", objects[-1]),
            )
        shared = sorted(PLUGINS.glob("*.cpp"))
        return _link(target, *plugins, *shared, *objects)

    return _cached(words.stem, [ON_HOST, words], make)


def compile_recording_library() -> Path:
    """Compile the plugins so that launches are recorded and not run."""
    return compile_host_library(RECORDING)


def compile_memory_counter() -> Path:
    source = HERE / "counting_memory.c"

    def make(target: Path) -> str:
        return _run("gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o", target)

    return _cached("counter", [source], make)


def compile_mock_host() -> Path:
    source = HERE / "mock_host.cpp"
    return _cached("mock", [source], lambda target: _link(target, source))


def _link(target: Path, *inputs: Path) -> str:
    return _run(
        *(require_nvcc().program, "-shared", "-std=c++17", "-cudart", "none", "-Xcompiler"),
        *("-fPIC,-Wall,-Wextra,-Werror", "-isystem", find_headers(), "-I", FOLDER),
        *(*inputs, "-o", target),
    )


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("dims", ctypes.c_int64 * 8),
        ("rank", ctypes.c_int32),
        ("type", ctypes.c_int32),
        ("format", ctypes.c_int32),
    )


class _Field(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("type", ctypes.c_int32),
        ("length", ctypes.c_int32),
    )


@dataclass(frozen=True)
class Tensor:
    """Lengths (-1 if unknown), element type and format of a tensor."""

    dims: tuple[int, ...]
    type: int = FLOAT32
    format: int = LINEAR


@dataclass(frozen=True)
class Field:
    """A field of a creator; its type is that of the values by default."""

    name: str
    values: Any
    kind: str = ""
    keep: list[Any] = field(default_factory=list, compare=False)

    def as_c(self) -> _Field:
        if isinstance(self.values, str):
            data = ctypes.create_string_buffer(self.values.encode())
            kind, length = "char", len(self.values)
            self.keep.append(data)
            address = ctypes.addressof(data)
        else:
            values = np.atleast_1d(np.asarray(self.values))
            kind = self.kind or ("float32" if values.dtype.kind == "f" else "int32")
            array = np.ascontiguousarray(values, kind)
            self.keep.append(array)
            address, length = array.ctypes.data, array.size
        return _Field(self.name.encode(), address, KINDS[kind], length)


def _tensors(tensors: Sequence[Tensor]) -> Any:
    array = (_Tensor * len(tensors))()
    for one, tensor in zip(array, tensors, strict=True):
        one.dims[: len(tensor.dims)] = tensor.dims
        one.rank, one.type, one.format = len(tensor.dims), tensor.type, tensor.format
    return array


class Library:
    """A plugin library, loaded by the mock host."""

    def __init__(self, path: Path) -> None:
        self.host = ctypes.CDLL(str(compile_mock_host()))
        for name in (
            "log",
            "creators",
            "field_names",
            "serialized",
            "identity",
            "shape",
            "output_types",
        ):
            getattr(self.host, f"host_{name}").restype = ctypes.c_char_p
        for name in ("load", "create", "restore", "clone", "attach"):
            getattr(self.host, f"host_{name}").restype = ctypes.c_void_p
        self.host.host_workspace.restype = ctypes.c_size_t
        loaded = self.host.host_load(str(path).encode())
        assert loaded is not None, self.log()
        self.handle = ctypes.c_void_p(loaded)

    def log(self) -> str:
        return str(self.host.host_log().decode())

    def creators(self) -> list[str]:
        return list(self.host.host_creators(self.handle).decode().splitlines())

    def field_names(self, op: str) -> list[str]:
        return list(self.host.host_field_names(self.handle, op.encode()).decode().splitlines())

    def create(self, op: str, *fields: Field, phase: int = BUILD) -> Plugin | None:
        given = (_Field * len(fields))(*(one.as_c() for one in fields))
        made = self.host.host_create(self.handle, op.encode(), given, len(fields), phase)
        return Plugin(self, op, made) if made else None

    def made(self, op: str, *fields: Field) -> Plugin:
        """Create a plugin from valid fields."""
        plugin = self.create(op, *fields)
        assert plugin is not None, self.log()
        return plugin


class Plugin:
    """One plugin. It is destroyed with this object."""

    def __init__(self, library: Library, op: str, handle: int) -> None:
        self.library, self.op, self.handle = library, op, ctypes.c_void_p(handle)

    def __del__(self) -> None:
        self.library.host.host_destroy(self.handle)

    def _made(self, handle: int | None) -> Plugin:
        assert handle is not None
        assert handle != self.handle.value
        return Plugin(self.library, self.op, handle)

    def clone(self) -> Plugin:
        return self._made(self.library.host.host_clone(self.handle))

    def attach(self) -> Plugin:
        return self._made(self.library.host.host_attach(self.handle))

    def restore(self) -> Plugin:
        host, name = self.library.host, self.op.encode()
        return self._made(host.host_restore(self.library.handle, name, self.handle))

    def serialized(self) -> list[str]:
        return list(self.library.host.host_serialized(self.handle).decode().splitlines())

    def identity(self) -> str:
        return str(self.library.host.host_identity(self.handle).decode())

    def shape(self, *inputs: Tensor, values: Sequence[tuple[int, ...]] = ()) -> str:
        """Return the lengths of the outputs; ``values`` are the values of shape inputs."""
        given = [Tensor(one) for one in values]
        arguments = (_tensors(inputs), len(inputs), _tensors(given), len(given))
        return str(self.library.host.host_shape(self.handle, *arguments).decode())

    def supports(self, place: int, *tensors: Tensor) -> bool:
        host = self.library.host
        return bool(host.host_supports(self.handle, place, _tensors(tensors), len(tensors)))

    def output_types(self, *types: int) -> list[int]:
        given = (ctypes.c_int * len(types))(*types)
        found = self.library.host.host_output_types(self.handle, given, len(types))
        return [int(one) for one in found.decode().split()]

    def configure(self, *tensors: Tensor) -> int:
        return int(self.library.host.host_configure(self.handle, _tensors(tensors), len(tensors)))

    def workspace(self, *tensors: Tensor) -> int:
        return int(self.library.host.host_workspace(self.handle, _tensors(tensors), len(tensors)))

    def change_shape(self, *tensors: Tensor) -> int:
        host = self.library.host
        return int(host.host_change_shape(self.handle, _tensors(tensors), len(tensors)))

    def enqueue(
        self,
        tensors: Sequence[Tensor],
        inputs: Sequence[np.ndarray[Any, Any] | None],
        outputs: Sequence[np.ndarray[Any, Any] | None],
        workspace: np.ndarray[Any, Any] | None = None,
    ) -> int:
        place = None if workspace is None else ctypes.c_void_p(workspace.ctypes.data)
        held = (_addresses(inputs), _addresses(outputs), place)
        host = self.library.host
        return int(host.host_enqueue(self.handle, _tensors(tensors), len(tensors), *held))

    def counted_enqueue(
        self,
        tensors: Sequence[Tensor],
        inputs: Sequence[np.ndarray[Any, Any]],
        outputs: Sequence[np.ndarray[Any, Any]],
        workspace: np.ndarray[Any, Any],
        stream: int,
    ) -> tuple[int, int]:
        """Return the status and the number of allocations; see counting_memory.c."""
        count = ctypes.c_int(-1)
        held = (_addresses(inputs), _addresses(outputs), ctypes.c_void_p(workspace.ctypes.data))
        status = self.library.host.host_counted_enqueue(
            *(self.handle, _tensors(tensors), len(tensors), *held),
            *(ctypes.c_void_p(stream), ctypes.byref(count)),
        )
        return int(status), count.value


def _addresses(arrays: Sequence[np.ndarray[Any, Any] | None]) -> Any:
    addresses = [None if one is None else one.ctypes.data for one in arrays]
    return (ctypes.c_void_p * len(addresses))(*addresses)
