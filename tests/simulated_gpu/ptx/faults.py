# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a kernel.

::

    PtxError
    |-- UnknownInstructionError   the interpreter does not know it; nothing was run
    `-- KernelFault           the kernel did what it must not
        |-- OutOfBounds
        |-- Misaligned
        |-- Uninitialised
        |-- Race
        |-- DivergentBarrier
        `-- Trapped           trap, a failed assert, or no end
"""

from __future__ import annotations

__all__ = [
    "DivergentBarrier",
    "KernelFault",
    "Misaligned",
    "OutOfBounds",
    "PtxError",
    "Race",
    "Trapped",
    "Uninitialised",
    "UnknownInstructionError",
]


class PtxError(Exception):
    """Root of all errors here."""


class UnknownInstructionError(PtxError):
    """An instruction or a form of one that the interpreter lacks."""


class KernelFault(PtxError):  # noqa: N818 - a fault is what CUDA calls it
    """A kernel broke a rule; the message names kernel, block, thread and instruction.

    Args:
        what: What happened, for people.
        position: Of the guilty lane in the frame that ran, if there is one.
    """

    def __init__(self, what: str, position: int | None = None) -> None:
        super().__init__(what)
        self.position = position


class OutOfBounds(KernelFault):
    """An access outside every live allocation."""


class Misaligned(KernelFault):
    """An address that is no multiple of the size of the access."""


class Uninitialised(KernelFault):
    """A value was used that nobody wrote."""


class Race(KernelFault):
    """Two threads met at one place of shared memory without a barrier between them."""


class DivergentBarrier(KernelFault):
    """A barrier, or a warp's exchange, that some of its threads never reach."""


class Trapped(KernelFault):
    """The kernel gave up, or never ended."""
