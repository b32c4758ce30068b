# SPDX-License-Identifier: Apache-2.0
"""The faults of a kernel.

::

    PtxError
    |-- UnknownInstructionError   the interpreter lacks it; nothing was run
    `-- KernelFault           the kernel did what it must not
        |-- OutOfBounds
        |-- Misaligned
        |-- Uninitialized
        |-- Race
        |-- DivergentBarrier
        `-- Trapped           no end
"""

from __future__ import annotations


class PtxError(Exception):
    """Root of all errors here."""


class UnknownInstructionError(PtxError):
    """An instruction or a form of one that the interpreter lacks."""


class KernelFault(PtxError):  # noqa: N818 - a fault is what CUDA calls it
    """A violation of a rule; the message names kernel, block, thread and instruction.

    Args:
        what: Description of the fault.
        position: Position of the lane at fault in the frame that ran, if there is one.
    """

    def __init__(self, what: str, position: int | None = None) -> None:
        super().__init__(what)
        self.position = position


class OutOfBounds(KernelFault):
    """An access outside every live allocation."""


class Misaligned(KernelFault):
    """An address that is no multiple of the size of the access."""


class Uninitialized(KernelFault):
    """A use of a value that was never written."""


class Race(KernelFault):
    """Accesses of two threads to one place in shared memory without a barrier between them."""


class DivergentBarrier(KernelFault):
    """A barrier, or a warp's exchange, that some of its threads never reach."""


class Trapped(KernelFault):
    """A kernel that does not end."""
