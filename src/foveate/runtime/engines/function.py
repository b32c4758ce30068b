# SPDX-License-Identifier: Apache-2.0
"""A Python function as an engine, for comparison with other frameworks and for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from foveate.arrays import Array
from foveate.bundle.manifest import TensorSpec
from foveate.runtime.engines.cpu import CpuEngine


class FunctionEngine(CpuEngine):
    """An engine that calls a function.

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
