# SPDX-License-Identifier: Apache-2.0
"""Engines that read and write the memory of the CPU, and one that calls a Python function."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np

from foveate.arrays import Array, Int32Array
from foveate.bundle.manifest import TensorSpec
from foveate.runtime.devices import Buffer, Stream
from foveate.runtime.devices.cpu import cpu_array, cpu_stream


class CpuEngine(ABC):
    """An engine that runs on arrays, cut to the rows that exist.

    A run needs about 2 MB per row of refine. The memory of so few rows stays in the caches of a
    processor.

    Args:
        inputs: Names, dtypes and shapes of the inputs.
        outputs: Names, dtypes and shapes of the outputs.
    """

    capturable = False
    rows_at_once = 10

    def __init__(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        self.inputs = inputs
        self.outputs = outputs

    @abstractmethod
    def run(self, inputs: dict[str, Array], outputs: dict[str, Array]) -> None:
        """Compute the outputs in place. The arrays are valid only during the call."""

    @abstractmethod
    def close(self) -> None:
        """Release the resources of the engine; closing twice does nothing."""

    def rows_for(self, rows: int) -> int:
        """Return ``rows``, since a run takes any number."""
        return rows

    def bind(
        self,
        bindings: Mapping[str, Buffer],
        stream: Stream,
        *,
        rows: Buffer | None = None,
        first: int = 0,
    ) -> Callable[[], None]:
        """Prepare runs on the same buffers; see :class:`foveate.runtime.engines.Engine`."""
        count = None if rows is None else cpu_array(rows)
        return partial(cpu_stream(stream).enqueue, self._run, dict(bindings), count, first)

    def _run(self, bindings: Mapping[str, Buffer], count: Int32Array | None, first: int) -> None:
        rows = None if count is None else int(count[0]) - first
        if rows is None or rows > 0:
            self.run(_arrays(self.inputs, bindings, rows), _arrays(self.outputs, bindings, rows))


class FunctionEngine(CpuEngine):
    """An engine that calls a Python function, for comparison with other frameworks and for tests.

    Args:
        inputs: Names, dtypes and shapes of the inputs.
        outputs: Names, dtypes and shapes of the outputs.
        function: Called with the inputs by name; returns the outputs by name. The inputs are valid
            only during the call, and the outputs are copied. The function belongs to the caller.
    """

    def __init__(
        self,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        function: Callable[[dict[str, Array]], Mapping[str, Array]],
    ) -> None:
        super().__init__(inputs, outputs)
        self._function = function

    def close(self) -> None:
        """Do nothing: the function belongs to the caller."""

    def run(self, inputs: dict[str, Array], outputs: dict[str, Array]) -> None:
        """Call the function and copy its results."""
        results = self._function(inputs)
        for name, target in outputs.items():
            result = np.asarray(results[name])
            assert result.shape == target.shape, f"{name}: {result.shape} is not {target.shape}"
            np.copyto(target, result)


def _arrays(
    specs: Iterable[TensorSpec], bindings: Mapping[str, Buffer], rows: int | None
) -> dict[str, Array]:
    """Return the array of each tensor; where the first length varies, only the first rows."""
    arrays = {}
    for spec in specs:
        array = cpu_array(bindings[spec.name])
        arrays[spec.name] = array[:rows] if spec.has_rows else array
    return arrays
