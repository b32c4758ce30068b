# SPDX-License-Identifier: Apache-2.0
"""Results of driver calls that are no success, and faults that a test asks for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Status(IntEnum):
    """Some values of ``CUresult``."""

    SUCCESS = 0
    INVALID_VALUE = 1
    OUT_OF_MEMORY = 2
    NOT_INITIALIZED = 3
    NO_DEVICE = 100
    INVALID_DEVICE = 101
    INVALID_IMAGE = 200
    INVALID_CONTEXT = 201
    INVALID_HANDLE = 400
    NOT_FOUND = 500
    NOT_READY = 600
    ILLEGAL_ADDRESS = 700
    CONTEXT_IS_DESTROYED = 709
    MISALIGNED_ADDRESS = 716
    LAUNCH_FAILED = 719
    NOT_SUPPORTED = 801
    CAPTURE_UNSUPPORTED = 900
    CAPTURE_INVALIDATED = 901
    CAPTURE_MERGE = 902
    CAPTURE_UNMATCHED = 903
    CAPTURE_UNJOINED = 904
    CAPTURE_ISOLATION = 905
    CAPTURE_IMPLICIT = 906
    CAPTURED_EVENT = 907
    CAPTURE_WRONG_THREAD = 908
    UNKNOWN = 999


STICKY = frozenset({700, 702, 714, 715, 716, 717, 718, 719})
"""Results that corrupt the context, so that every later call fails with them."""


class Refused(Exception):  # noqa: N818 - the driver refuses a call
    """The result of a call.

    Args:
        status: The ``CUresult``.
        why: Explanation for the person who reads the list of calls.
    """

    def __init__(self, status: int, why: str = "") -> None:
        super().__init__(f"CUresult {int(status)}: {why}")
        self.status = int(status)


@dataclass
class Fault:
    """A fault to come: the ``left``-th call of an entry point, or of any, gets ``status``."""

    entry: str | None
    left: int
    status: int


class Faults:
    """The faults that a test has asked for."""

    def __init__(self) -> None:
        self._coming: list[Fault] = []

    def add(self, status: int, entry: str | None, nth: int) -> Fault:
        """Let the nth call from now fail; its ``left`` is 0 when it has."""
        fault = Fault(entry, nth, status)
        self._coming.append(fault)
        return fault

    def check(self, name: str) -> None:
        """Count a call.

        Raises:
            Refused: It is the call that was asked to fail.
        """
        for fault in self._coming:
            if fault.left and fault.entry in (None, name):
                fault.left -= 1
                if not fault.left:
                    raise Refused(fault.status, "as the test asked")
