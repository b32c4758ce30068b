# SPDX-License-Identifier: Apache-2.0
"""From a call of an operation to the launches of its device kernels.

For a device layer that loads compiled kernels itself; which kernels those are, the operation's
plan says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.errors import BackendError
from foveate.kernels.launches import KERNELS

if TYPE_CHECKING:
    from pathlib import Path

    from foveate.kernels.launch_shapes import LaunchShape
    from foveate.kernels.op import Op
    from foveate.kernels.plans import DeviceArray, Scratch

_NUMBERS: dict[str, Callable[[Any], np.generic]] = {
    "pointer": lambda array: np.uint64(0 if array is None else array.address),
    "int": np.int32,
    "float": np.float32,
    "double": np.float64,
}


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One launch of one kernel.

    Args:
        kernel: Its name in the module that is compiled from ``source``.
        source: File, relative to the folder of the kernels.
        shape: Grid, block and dynamic shared memory.
        arguments: Numbers of the widths that the kernel takes, addresses among them.
    """

    kernel: str
    source: Path
    shape: LaunchShape
    arguments: tuple[np.generic, ...]


def launches_of(
    op: Op,
    scratch: Scratch,
    *buffers: DeviceArray | Sequence[DeviceArray],
    **numbers: Any,
) -> Iterator[Launch]:
    """Yield the launches of an operation, in order.

    Args:
        op: The operation.
        scratch: Gives memory for tables and intermediate results.
        buffers: The operation's inputs and outputs.
        numbers: Its numbers.

    Raises:
        BackendError: The operation has no device kernels.
        OptionError: A size is beyond what one launch can do.
    """
    if op.plan is None:
        raise BackendError(
            f"the operation {op.name!r} has no device kernels",
            remedy="run it on the CPU: device='cpu'",
        )
    for name, arguments in op.plan(scratch, *buffers, **numbers):
        yield launch_of(name, arguments)


def launch_of(name: str, arguments: Mapping[str, DeviceArray | float | None]) -> Launch:
    """Return the launch of a kernel by its name, without ``foveate_``, and its arguments."""
    kernel = KERNELS[f"foveate_{name}"]
    kinds = {parameter: kind for kind, parameter in map(str.split, kernel.parameters)}
    assert kinds.keys() == arguments.keys(), f"{name}: {sorted(kinds.keys() ^ arguments.keys())}"
    sizes: dict[str, Any] = {
        parameter: arguments[parameter] for parameter, kind in kinds.items() if kind == "int"
    }
    return Launch(
        kernel=kernel.name,
        source=kernel.source,
        shape=kernel.shape(**sizes, lanes=kernel.lanes),
        arguments=tuple(_NUMBERS[kind](arguments[parameter]) for parameter, kind in kinds.items()),
    )
