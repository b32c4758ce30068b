# SPDX-License-Identifier: Apache-2.0
"""An engine on a GPU as a function of arrays on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foveate.runtime.engines.engine import NoPlanError

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from foveate.arrays import Array
    from foveate.bundle.manifest import TensorSpec
    from foveate.runtime.devices import Device, Mirror
    from foveate.runtime.engines import Engine


class EngineRun:
    """Runs an engine; see ``Run`` of :mod:`foveate.export.checks.verification`.

    Args:
        engine: The engine, which belongs to the caller.
        device: Device of the engine.
        lock: Held during a run: the stages of a reference may run in several threads.
    """

    def __init__(self, engine: Engine, device: Device, lock: threading.Lock) -> None:
        self._engine = engine
        self._device = device
        self._stream = device.stream()
        self._lock = lock

    def __call__(
        self, inputs: dict[str, Array], expected: Mapping[str, Array]
    ) -> Mapping[str, Array] | None:
        """Return the outputs, or None if no plan of the engine accepts the inputs.

        Raises:
            BackendError: The engine fails.
        """
        with self._lock:
            given = {one.name: self._mirror(one, inputs[one.name]) for one in self._engine.inputs}
            for spec in self._engine.inputs:
                array = inputs[spec.name]
                given[spec.name].array[: len(array)] = array
                given[spec.name].array[len(array) :] = 0
                given[spec.name].send(self._stream)
            found = {
                one.name: self._mirror(one, expected[one.name]) for one in self._engine.outputs
            }
            tensors = {name: one.buffer for name, one in (given | found).items()}
            try:
                self._engine.bind(tensors, self._stream)()
            except NoPlanError:
                self._stream.synchronize()  # before the memory is released
                return None
            for one in found.values():
                one.fetch(self._stream)
            self._stream.synchronize()
            return {name: one.array[: len(expected[name])].copy() for name, one in found.items()}

    def _mirror(self, spec: TensorSpec, like: Array) -> Mirror:
        """Allocate a tensor of the engine for an array of the reference, with padding rows."""
        rows = self._engine.rows_for(len(like)) if spec.has_rows else len(like)
        return self._device.mirror((rows, *like.shape[1:]), np.dtype(spec.dtype))
