# SPDX-License-Identifier: Apache-2.0
"""Running one operation on a device, from NumPy arrays to NumPy arrays."""

from __future__ import annotations

from typing import Any, TypeAlias

from foveate.arrays import Array
from foveate.kernels import Op
from foveate.runtime.devices import Device
from foveate.selftest.running import Call, Inputs, Outputs, PreparedCall

__all__ = ["Array", "Inputs", "Numbers", "Outputs", "run"]

Numbers: TypeAlias = Any


def run(
    device: Device,
    op: Op,
    inputs: Inputs,
    outputs: Outputs,
    *,
    poison: bool = True,
    **numbers: Numbers,
) -> list[Array]:
    """Return all outputs of an operation; see `Call` and `PreparedCall`."""
    call = Call(op=op, inputs=inputs, outputs=outputs, numbers=numbers)
    return PreparedCall(device, call, poison=poison).run()
