# SPDX-License-Identifier: Apache-2.0
"""A Python function as an engine, for comparison with other frameworks and for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from foveate.arrays import Array, Int32Array
from foveate.runtime.devices.cpu import cpu_array, cpu_stream
from foveate.runtime.engines.rows import leading_rows

if TYPE_CHECKING:
    from foveate.bundle.manifest import TensorSpec
    from foveate.runtime.devices import Buffer, Stream


class FunctionEngine:
    """An engine on the host that calls a function.

    Args:
        inputs: Names, dtypes and shapes of the inputs.
        outputs: The same of the outputs.
        function: Gets the inputs by name and returns the outputs by name. The inputs are valid
            only during the call; the outputs are copied.
    """

    def __init__(
        self,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        function: Callable[[dict[str, Array]], Mapping[str, Array]],
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._function = function

    def enqueue(
        self,
        bindings: Mapping[str, Buffer],
        stream: Stream,
        *,
        rows: Buffer | None = None,
        first: int = 0,
    ) -> None:
        """Enqueue one run; see :class:`foveate.runtime.engines.Engine`."""
        count = None if rows is None else cpu_array(rows)
        cpu_stream(stream).enqueue(self._run, dict(bindings), count, first)

    def close(self) -> None:
        """Do nothing: the function belongs to the caller."""

    def _run(self, bindings: Mapping[str, Buffer], count: Int32Array | None, first: int) -> None:
        if count is not None and count[0] <= first:
            return
        results = self._function(leading_rows(self.inputs, bindings, count, first))
        for name, target in leading_rows(self.outputs, bindings, count, first).items():
            result = np.asarray(results[name])
            assert result.shape == target.shape, f"{name}: {result.shape} is not {target.shape}"
            np.copyto(target, result)
