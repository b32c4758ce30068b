# SPDX-License-Identifier: Apache-2.0
"""Enqueues each plugin twice, and prints its allocations and launches.

    LD_PRELOAD=counting_memory.so python -m tests.kernels.plugins.mock_host.calls LIBRARY

Each line is JSON: the name of the plugin, and the allocations and the launches of both calls.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

import numpy as np
from tests.kernels.plugins.mock_host import host as mock
from tests.kernels.plugins.mock_host.host import Field, Library, Plugin, Tensor

STREAM = 0x5712EA8


def main() -> None:
    """Print one line per plugin."""
    path = Path(sys.argv[1])
    library, own = Library(path), ctypes.CDLL(str(path))
    own.recorded_launches.restype = ctypes.c_char_p
    for name, (plugin, tensors) in plugins(library).items():
        assert plugin.change_shape(*tensors) == 0
        arrays = [np.zeros(64 + int(np.prod(tensor.dims)), np.int64) for tensor in tensors]
        workspace = np.zeros(max(plugin.workspace(*tensors), 1), np.uint8)
        outputs = 3 if "paste" in name else 1
        allocations: list[int] = []
        launches: list[list[str]] = []
        for _ in range(2):
            status, count = plugin.counted_enqueue(
                tensors, arrays[:-outputs], arrays[-outputs:], workspace, STREAM
            )
            assert status == 0, library.log()
            allocations.append(count)
            launches.append(own.recorded_launches().decode().splitlines())
        print(json.dumps({"name": name, "allocations": allocations, "launches": launches}))  # noqa: T201 - the test reads it


def plugins(library: Library) -> dict[str, tuple[Plugin, list[Tensor]]]:
    """Return plugins as an engine holds them, with their inputs and outputs."""
    made: dict[str, tuple[Plugin, list[Tensor]]] = {}
    for tables in (0, 1):
        for kind, form in ((mock.FLOAT32, mock.HWC), (mock.FLOAT16, mock.HWC8)):
            plugin = library.made(
                "RoiMaxPool2d",
                Field("pooled_shape", [7, 5]),
                Field("spatial_scale", 0.0625),
                Field("tables", tables),
            )
            pooled = Tensor((9, 8, 7, 5), kind, form)
            tensors = [Tensor((1, 8, 20, 30), kind, form), Tensor((9, 5)), pooled]
            made[f"pool, tables {tables}, type {kind}"] = plugin.restore().attach(), tensors
    for kind in (mock.FLOAT32, mock.FLOAT16):
        plugin = library.made("BilinearUpsample2d", Field("scale", 2), Field("relu", 1))
        maps = [Tensor((1, 3, 9, 13), kind)] * 2
        grown = Tensor((1, 3, 18, 26), kind)
        made[f"upsample, type {kind}"] = plugin.restore().attach(), [*maps, grown]
        plugin = library.made(
            "BilinearUpsample2d", Field("mode", "windows"), Field("threshold", -0.5)
        )
        masks = [Tensor((6, 64, 2), mock.INT32), Tensor((6,), mock.INT32), Tensor((6, 4))]
        given = [Tensor((6, 14, 14), kind), Tensor((6, 4)), Tensor((2,), mock.INT64)]
        made[f"paste, type {kind}"] = plugin.restore().attach(), [*given, *masks]
    return made


if __name__ == "__main__":
    main()
