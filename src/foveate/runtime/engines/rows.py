# SPDX-License-Identifier: Apache-2.0
"""Arrays of the host for one run of an engine, cut to the rows that matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.runtime.devices.cpu import cpu_array

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from foveate.arrays import Array, Int32Array
    from foveate.bundle.manifest import TensorSpec
    from foveate.runtime.devices import Buffer


def leading_rows(
    specs: Iterable[TensorSpec],
    bindings: Mapping[str, Buffer],
    count: Int32Array | None,
    first: int,
) -> dict[str, Array]:
    """Return the array of each tensor; if its first length varies, only the rows that exist.

    Those are ``count`` in all, ``first`` of which lie before these arrays.
    """
    arrays = {spec.name: cpu_array(bindings[spec.name]) for spec in specs}
    if count is None:
        return arrays
    stop = max(int(count[0]) - first, 0)
    varying = {spec.name for spec in specs if spec.shape and isinstance(spec.shape[0], str)}
    return {name: a[:stop] if name in varying else a for name, a in arrays.items()}
