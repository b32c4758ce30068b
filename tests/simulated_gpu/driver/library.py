# SPDX-License-Identifier: Apache-2.0
"""The stub library: built once, loaded once into a process, connected to one simulation at a time.

It is loaded as ``libcuda.so.1`` for all of the process, so that whatever asks for that name gets it.
While no simulation is connected, every entry point answers that there is no device.

::

    with connected(Simulation(seed=1)) as simulation:
        device = CudaDevice(code="ptx")
        ...
        assert simulation.conflicts == []
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import re
import subprocess
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.samples.paths import ROOT
from tests.simulated_gpu.driver import (
    entries_code,
    entries_copies,
    entries_device,
    entries_graph,
    entries_memory,
    entries_streams,
)
from tests.simulated_gpu.driver.entry import ENTRIES, INT, PTR, STR, U64, put
from tests.simulated_gpu.driver.faults import STICKY, Refused, Status
from tests.simulated_gpu.driver.simulation import Call, Simulation
from tests.simulated_gpu.ptx.faults import OutOfBounds

REGISTERED = (
    entries_code,
    entries_copies,
    entries_device,
    entries_graph,
    entries_memory,
    entries_streams,
)
STUB = Path(__file__).with_name("stub.c")
CACHE = ROOT / ".pytest_cache" / "libcuda"

# Other names of the same functions, which cuda.h gives them.
SUFFIXED = {
    "v2": "cuMemAlloc cuMemFree cuMemHostAlloc cuMemAllocHost cuStreamDestroy cuEventDestroy "
    "cuDeviceTotalMem cuCtxDestroy cuCtxPushCurrent cuCtxPopCurrent cuMemcpyHtoD cuMemcpyDtoH "
    "cuMemcpyDtoD cuMemcpy2DAsync cuMemcpyHtoDAsync cuMemcpyDtoHAsync cuMemcpyDtoDAsync cuMemGetInfo "
    "cuMemGetAddressRange cuMemHostGetDevicePointer cuMemsetD8 cuMemsetD32 cuStreamBeginCapture "
    "cuDevicePrimaryCtxRelease cuDeviceGetUuid cuEventElapsedTime cuCtxCreate",
    "v3": "cuStreamGetCaptureInfo",
}
ALIASES = {f"{name}_{v}": name for v, names in SUFFIXED.items() for name in names.split()}
# Calls that no test counts and no fault reaches.
SILENT = {"cuGetErrorName", "cuGetErrorString", "cuGetProcAddress_v2"}
# Calls that a corrupted context does not affect, and those that need no current context.
STURDY = ("cuInit", "cuGet", "cuDriver", "cuDevice", "cuCtx")
FREE = (*STURDY, "cuPointer", "cuKernel", "cuLibrary", "cuGraph")

_connected: list[Simulation] = []


@contextmanager
def connected(simulation: Simulation) -> Iterator[Simulation]:
    """Let the CUDA driver of this process be a simulation."""
    load()
    assert not _connected, "a simulation is connected already"
    _forget_devices()
    _connected.append(simulation)
    try:
        yield simulation
    finally:
        if simulation.objects or any(simulation.live_bytes.values()):
            gc.collect()  # what was dropped is released while its driver is there
        _connected.clear()
        _forget_devices()


@cache
def load() -> ctypes.CDLL:
    """Build and load the library, and set its entry points.

    Where the driver of a GPU is loaded already, packages would go on to use it: the test is skipped.
    """
    if "/libcuda.so" in Path("/proc/self/maps").read_text(encoding="utf-8"):
        pytest.skip("this process has loaded the driver of a GPU")
    loaded = ctypes.CDLL(str(build()), ctypes.RTLD_GLOBAL)
    for name, (function, types) in _entries().items():
        callback = ctypes.CFUNCTYPE(INT, *types)(_guarded(name, function))
        _CALLBACKS.append(callback)
        address = ctypes.cast(callback, PTR)
        for alias in (name, *(alias for alias, of in ALIASES.items() if of == name)):
            loaded.simulated_set(alias.encode(), address)
            _ADDRESSES[alias] = ctypes.cast(getattr(loaded, alias), PTR).value or 0
    return loaded


_CALLBACKS: list[Any] = []
_ADDRESSES: dict[str, int] = {}


def _entries() -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    return {**ENTRIES, "cuGetProcAddress_v2": (_address_of, (STR, PTR, INT, U64, PTR))}


def build() -> Path:
    """Compile the stub, unless it was compiled before; return the path of the library."""
    names = sorted({*_entries(), *ALIASES, *_linked_by_pycuda()})
    header = "#define NAMES(X) " + " ".join(f"X({name})" for name in names) + "\n"
    include = sysconfig.get_path("include")
    key = hashlib.sha256(f"{header}{STUB.read_text()}{include}".encode()).hexdigest()[:16]
    library = CACHE / key / "libcuda.so.1"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            (Path(folder) / "names.h").write_text(header)
            made = Path(folder) / library.name
            command = ["gcc", "-shared", "-fPIC", "-O1", "-Wl,-soname,libcuda.so.1", f"-I{folder}"]
            command += [f"-I{include}", "-o", str(made), str(STUB)]
            subprocess.run(command, check=True)
            made.replace(library)
    return library


def _linked_by_pycuda() -> set[str]:
    """Return the names that PyCUDA is linked with; it can be loaded only where all are exported."""
    spec = find_spec("pycuda")
    folders = (spec.submodule_search_locations or []) if spec else []
    files = [path for folder in folders for path in Path(folder).glob("_driver*.so")]
    found = [re.findall(rb"\0(cu[A-Z]\w+)(?=\0)", path.read_bytes()) for path in files]
    return {name.decode() for names in found for name in names}


def _address_of(
    _: Simulation, name: bytes, out: int, version: int, flags: int, status: int
) -> None:
    address = _ADDRESSES.get(_newest(name.decode()), 0)
    put(out, address)
    put(status, 0 if address else 1, INT)
    if not address:
        raise Refused(Status.NOT_FOUND, name.decode())


def _newest(name: str) -> str:
    # cuda.h maps the bare name of this one to its second version, which has another signature.
    return {"cuStreamGetCtx": "cuStreamGetCtx_v2", "cuCtxCreate": "cuCtxCreate_v4"}.get(name, name)


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., int]:
    def call(*arguments: Any) -> int:
        if name == "cuGetProcAddress_v2":
            return _status(lambda: function(None, *arguments))[0]
        if not _connected:
            return Status.NO_DEVICE
        sim = _connected[0]
        with sim.lock:
            if name in SILENT:
                return _status(lambda: function(sim, *arguments))[0]
            status, detail = _status(lambda: _checked(sim, name, function, arguments))
            sim.calls.append(Call(name, detail, status))
        if status in STICKY:
            sim.streams.failure = status
        return status

    return call


def _checked(sim: Simulation, name: str, function: Callable[..., Any], arguments: Any) -> str:
    sim.faults.check(name)
    if sim.streams.failure and not name.startswith(STURDY):
        raise Refused(sim.streams.failure, "the context is corrupted by an earlier fault")
    if not sim.current and not name.startswith(FREE) and not name.endswith("Destroy"):
        raise Refused(Status.INVALID_CONTEXT, "no context is current in this thread")
    return function(sim, *arguments) or ""


def _status(do: Callable[[], str | None]) -> tuple[int, str]:
    """Return result and details of a call."""
    try:
        return Status.SUCCESS, do() or ""
    except Refused as error:
        return error.status, str(error)
    except OutOfBounds as error:
        return Status.INVALID_VALUE, str(error)
    except Exception as error:  # noqa: BLE001 - nothing may leave a callback of ctypes
        traceback.print_exc()
        return Status.UNKNOWN, repr(error)


def _forget_devices() -> None:
    """Let cuda-core ask anew what the device is: it keeps devices for each thread."""
    module = sys.modules.get("cuda.core._device")
    if module is not None and hasattr(module._tls, "devices"):
        del module._tls.devices
