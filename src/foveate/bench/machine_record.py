# SPDX-License-Identifier: Apache-2.0
"""The state of the machine during a benchmark, as it is recorded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Processor:
    """The processor during the run.

    Args:
        name: Name of its model.
        cores: Number of cores that the process may use.
        load_before: Load average of the last minute before the run.
        load_after: The same after it.
        others: Processor time that other processes took, as a share of all cores.
        steal: Time that the hypervisor took, as a share of all cores.
        governor: Governor of the clock frequency.
        lowest_mhz: Lowest clock frequency of a core that was seen.
        highest_mhz: Highest clock frequency of a core that was seen.
        throttled: Number of times that heat lowered the frequency.
        quota_throttled: Number of periods in which the quota of the control group stopped the process.
        switches: Number of involuntary context switches of the process.
    """

    name: str
    cores: int
    load_before: float | None
    load_after: float | None
    others: float | None
    steal: float | None
    governor: str | None
    lowest_mhz: float | None
    highest_mhz: float | None
    throttled: int | None
    quota_throttled: int | None
    switches: int | None


@dataclass(frozen=True, kw_only=True)
class GpuState:
    """The GPU during the run.

    Args:
        name: Name of its model.
        driver: Version of its driver.
        others: Number of other processes that used it.
        clock_mhz: Clock frequency of its multiprocessors after the run.
        highest_mhz: Highest clock frequency that they can have.
        celsius: Temperature after the run.
        throttled: Reasons for a lower clock frequency, except that the GPU was idle.
    """

    name: str
    driver: str | None
    others: int | None
    clock_mhz: int | None
    highest_mhz: int | None
    celsius: int | None
    throttled: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine, and whether figures measured on it in this state are fit to be published.

    Args:
        system: Name and version of the operating system.
        python: Version of Python.
        processor: State of the processor.
        gpu: State of the GPU; null if the run used none.
        fit: Whether the figures are fit to be published.
        reasons: Reasons why they are not, one sentence each.
    """

    system: str
    python: str
    processor: Processor
    gpu: GpuState | None
    fit: bool
    reasons: tuple[str, ...]
