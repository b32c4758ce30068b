# SPDX-License-Identifier: Apache-2.0
"""Count what an image costs on the CPU: ``python -m tests.budgets.cpu_image``.

This is a process of its own, so that the counter of allocations can be preloaded.
"""

from __future__ import annotations

import ctypes
import json
import sys
import tracemalloc
from collections import Counter
from math import prod

import numpy as np
from tests.samples.paths import CAT

from foveate.arrays import Array
from foveate.bundle import Bundle
from foveate.runtime.devices import CpuDevice
from foveate.runtime.engines import Engine
from foveate.runtime.engines.cpu import CpuEngine
from foveate.runtime.loading import open_engines
from foveate.runtime.pipeline import Pipeline

# A session of ONNX Runtime takes the memory of its arena in the first runs.
WARM_UP = 2
MEMORY = ("memory of 128 KiB and more, allocations", "memory of 128 KiB and more, bytes")


class CountedEngine(CpuEngine):
    """An engine whose runs are counted.

    Args:
        stage: Name of the stage.
        engine: The engine, of the CPU.
        counts: Counts by name.
        waste: What each run wastes: "run" or "copy", or "" for nothing.
    """

    def __init__(self, stage: str, engine: Engine, counts: Counter[str], waste: str) -> None:
        assert isinstance(engine, CpuEngine)
        super().__init__(engine.inputs, engine.outputs)
        self._stage, self._engine, self._counts, self._waste = stage, engine, counts, waste

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def run(self, inputs: dict[str, Array], outputs: dict[str, Array]) -> None:
        """Run the engine, and count the run and the rows or pixels that it reads."""
        if self._waste == "copy":
            inputs = {name: np.array(array) for name, array in inputs.items()}
        for _ in range(2 if self._waste == "run" else 1):
            self._engine.run(inputs, outputs)
            self._counts[f"{self._stage}, runs"] += 1
            if "image" in inputs:
                self._counts[f"{self._stage}, pixels"] += prod(inputs["image"].shape[2:])
            for spec in self.inputs:
                if spec.has_rows:
                    self._counts[f"{self._stage}, rows"] += len(inputs[spec.name])
                    break


def main(waste: str) -> int:
    """Print the counts of an image as JSON, after some others of the same size."""
    bundle, counts = Bundle.open("mini"), Counter[str]()
    engines = open_engines(bundle, CpuDevice(), threads=1)
    counted = {name: CountedEngine(name, one, counts, waste) for name, one in engines.items()}
    library = ctypes.CDLL(None)
    with Pipeline(bundle, counted) as pipeline:
        for _ in range(WARM_UP):
            pipeline(CAT)
        counts.clear()
        start = memory(library)
        pipeline(CAT)
        end = memory(library)
        found = dict(counts)
        tracemalloc.start()
        pipeline(CAT)
        found["memory of Python and NumPy, peak bytes"] = tracemalloc.get_traced_memory()[1]
    for name, before, after in zip(MEMORY, start, end, strict=True):
        found[name] = after - before
    sys.stdout.write(json.dumps(found))
    return 0


def memory(library: ctypes.CDLL) -> list[int]:
    """Return the number and the bytes of the large allocations of this process so far."""
    functions = [library.large_allocations, library.large_allocated_bytes]
    for function in functions:
        function.restype = ctypes.c_ulonglong
    return [function() for function in functions]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
