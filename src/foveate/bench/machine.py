# SPDX-License-Identifier: Apache-2.0
"""The state of the machine during a run, and whether its figures are fit to be published."""

from __future__ import annotations

import os
import platform
import re
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from foveate.plain_text import counted
from foveate.system.resources import usable_cores

Number = TypeVar("Number", int, float)

# Shares of the processor beyond which figures are not fit to be published.
_MOST_OTHERS, _MOST_STEAL, _MOST_LOAD = 0.05, 0.01, 0.25
# Clock frequency of the slowest core, as a share of the fastest one.
_LEAST_CLOCK = 0.7
# Reasons of NVML for a lower clock, without an idle GPU (1) and a clock set by an application (2).
_THROTTLES = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "heat",
    0x40: "heat, by the hardware",
    0x80: "power brake",
}


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


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Counters of the machine at a moment; None where there is none.

    Args:
        time: Time of the clock of the system, in seconds.
        own: Processor time of the process, in seconds.
        busy: Processor time of all processes.
        stolen: Time that the hypervisor took.
        load: Load average of the last minute.
        mhz: Clock frequency of each core.
        throttled: Number of times that heat lowered a frequency.
        quota_throttled: Number of periods in which the control group stopped the process.
        switches: Number of involuntary context switches of the process.
    """

    time: float
    own: float
    busy: float | None
    stolen: float | None
    load: float | None
    mhz: tuple[float, ...]
    throttled: int | None
    quota_throttled: int | None
    switches: int


def take_snapshot(root: Path = Path("/")) -> Snapshot:
    """Return the counters of this moment; ``root`` contains ``proc`` and ``sys``."""
    busy, stolen = _processor_times(root)
    load = _words(root / "proc/loadavg")
    cpus = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    throttles = [int(words[0]) for file in cpus if (words := _words(file))]
    mhz = re.findall(r"^cpu MHz\s*: ([\d.]+)", system_text(root / "proc/cpuinfo"), re.MULTILINE)
    return Snapshot(
        time=time.monotonic(),
        own=time.process_time(),
        busy=busy,
        stolen=stolen,
        load=float(load[0]) if load else None,
        mhz=tuple(float(one) for one in mhz),
        throttled=sum(throttles) if throttles else None,
        quota_throttled=_quota_throttled(root),
        switches=involuntary_switches(),
    )


def system_text(file: Path) -> str:
    """Return the text of a file of the kernel; nothing if there is none, or if it is not readable."""
    with suppress(OSError, UnicodeError):
        return file.read_text(encoding="utf-8")
    return ""


def involuntary_switches() -> int:
    """Return the number of involuntary context switches of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def describe_machine(
    before: Snapshot,
    after: Snapshot,
    *,
    gpu: GpuState | None = None,
    doubts: tuple[str, ...] = (),
    root: Path = Path("/"),
) -> Machine:
    """Return the state of the machine between two snapshots, with the verdict and other doubts."""
    name = re.search(r"^model name\s*: (.+)$", system_text(root / "proc/cpuinfo"), re.MULTILINE)
    governor = _words(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    elapsed = (after.time - before.time) * (os.cpu_count() or 1)
    busy = _growth(before.busy, after.busy)
    others = None if busy is None else max(0.0, busy - (after.own - before.own))
    stolen = _growth(before.stolen, after.stolen)
    clocks = before.mhz + after.mhz
    processor = Processor(
        name=name[1] if name else platform.machine(),
        cores=usable_cores(),
        load_before=before.load,
        load_after=after.load,
        others=None if others is None or elapsed <= 0 else min(1.0, others / elapsed),
        steal=None if stolen is None or elapsed <= 0 else stolen / elapsed,
        governor=governor[0] if governor else None,
        lowest_mhz=min(clocks, default=None),
        highest_mhz=max(clocks, default=None),
        throttled=_growth(before.throttled, after.throttled),
        quota_throttled=_growth(before.quota_throttled, after.quota_throttled),
        switches=_growth(before.switches, after.switches),
    )
    reasons = (*_processor_reasons(processor), *_gpu_reasons(gpu), *doubts)
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        processor=processor,
        gpu=gpu,
        fit=not reasons,
        reasons=reasons,
    )


def throttle_reasons(bits: int) -> tuple[str, ...]:
    """Return the reasons for a lower clock of a GPU in words."""
    return tuple(text for bit, text in _THROTTLES.items() if bits & bit)


def _processor_reasons(state: Processor) -> Iterator[str]:
    if state.others is None:
        yield "the load of other processes is unknown on this system"
    elif state.others > _MOST_OTHERS:
        yield f"other processes took {state.others:.0%} of the processor"
    if state.steal is not None and state.steal > _MOST_STEAL:
        yield f"the hypervisor took {state.steal:.0%} of the processor"
    if state.load_before is not None and state.load_before > _MOST_LOAD * state.cores:
        yield f"the load average was {state.load_before:.1f} on {state.cores} cores before the run"
    if state.throttled:
        yield f"heat lowered the clock frequency {state.throttled} times"
    if state.quota_throttled:
        yield f"the control group's quota stopped the process {state.quota_throttled} times"
    low, high = state.lowest_mhz, state.highest_mhz
    if low is not None and high is not None and low < _LEAST_CLOCK * high:
        yield f"the cores ran at {low:.0f} to {high:.0f} MHz"


def _gpu_reasons(state: GpuState | None) -> Iterator[str]:
    if state is None:
        return
    if state.others is None:
        yield "whether other processes used the GPU is unknown"
    elif state.others:
        yield f"{counted(state.others, 'other process', 'other processes')} used the GPU"
    if state.throttled:
        yield f"the clock of the GPU was lowered ({', '.join(state.throttled)})"


def _processor_times(root: Path) -> tuple[float | None, float | None]:
    """Return the busy and the stolen seconds of all cores."""
    words = _words(root / "proc/stat")
    if len(words) < 9 or words[0] != "cpu":
        return None, None
    tick = 1 / os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, irq, soft, steal = (int(word) * tick for word in words[1:9])
    return user + nice + system + irq + soft, steal


def _quota_throttled(root: Path) -> int | None:
    """Return how often the control group of the process was stopped by its quota."""
    group = system_text(root / "proc/self/cgroup").partition("::")[2].strip().lstrip("/")
    mount = root / "sys/fs/cgroup"
    for folder in (mount / group, mount, mount / "cpu"):
        found = re.search(r"^nr_throttled (\d+)$", system_text(folder / "cpu.stat"), re.MULTILINE)
        if found:
            return int(found[1])
    return None


def _growth(before: Number | None, after: Number | None) -> Number | None:
    return None if before is None or after is None else after - before


def _words(file: Path) -> list[str]:
    return system_text(file).split()
