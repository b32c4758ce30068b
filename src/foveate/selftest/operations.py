# SPDX-License-Identifier: Apache-2.0
"""The steps of the self-test that launch single operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np

from foveate.runtime.devices.cpu import CpuDevice
from foveate.runtime.devices.cuda_program import CudaProgram
from foveate.selftest.cases import CASES, Make
from foveate.selftest.checks import Checks, Outcome, WrongResultError
from foveate.selftest.machine import gpu
from foveate.selftest.running import PreparedCall, largest_difference
from foveate.selftest.timing import copy_bandwidth, seconds_of

SCALES: tuple[int, ...] = (1, 3, 8)
# As large as images are; the others are timed at the largest of SCALES.
TIMED_SCALES = {"letterbox": 20, "resize": 20}


def operation_checks(_: str) -> Checks:
    """Return comparisons of each operation with the CPU, each at several sizes."""
    return _each_case(_compare)


def _compare(make: Make, scale: int) -> Outcome:
    call = make(np.random.default_rng(scale), scale)
    found, expected = PreparedCall(gpu(), call).run(), PreparedCall(CpuDevice(), call).run()
    difference = largest_difference(found, expected)
    if not difference <= call.tolerance:
        raise WrongResultError(
            f"expected a difference of at most {call.tolerance:.3g}, found {difference:.3g}"
        )
    return Outcome(difference=difference)


def capture_checks(_: str) -> Checks:
    """Return comparisons of each operation as a graph with the same operation launched plainly."""
    return _each_case(_capture)


def _capture(make: Make, scale: int) -> Outcome:
    prepared = PreparedCall(gpu(), make(np.random.default_rng(scale), scale))
    plain, program = prepared.run(), prepared.program
    if isinstance(program, CudaProgram) and not program.recorded:
        raise WrongResultError("the driver refused to record it; the log has the reason")
    difference = largest_difference(prepared.run(), plain)
    if difference:
        raise WrongResultError(
            f"the graph gives other values, the largest difference is {difference:.3g}"
        )
    return Outcome(difference=difference)


def _each_case(check: Callable[[Make, int], Outcome]) -> Checks:
    return {
        f"{name}, size {scale}": partial(check, make, scale)
        for name, make in CASES.items()
        for scale in SCALES
    }


def time_checks(_: str) -> Checks:
    """Return the times of all operations, with what their bytes predict."""
    return {name: partial(_time, name) for name in CASES}


def _time(name: str) -> Outcome:
    scale = TIMED_SCALES.get(name, SCALES[-1])
    seconds, moved = seconds_of(gpu(), CASES[name](np.random.default_rng(0), scale))
    predicted = moved / _bandwidth()
    times = {"microseconds": 1e6 * seconds, "predicted_microseconds": 1e6 * predicted}
    return Outcome(facts={"bytes": moved, **{k: round(v, 3) for k, v in times.items()}})


@cache
def _bandwidth() -> float:
    return copy_bandwidth(gpu())
