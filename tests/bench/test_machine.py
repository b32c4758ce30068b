# SPDX-License-Identifier: Apache-2.0
"""The state of the machine, read from written files, and the verdict on it."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foveate.bench.energy import EnergyMeter
from foveate.bench.gpu_counters import GpuCounters
from foveate.bench.machine import GpuState, Machine, Snapshot, describe_machine, take_snapshot

QUIET = Snapshot(
    time=100.0,
    own=10.0,
    busy=1000.0,
    stolen=5.0,
    load=0.1,
    mhz=(3000.0, 2950.0),
    throttled=2,
    quota_throttled=7,
    switches=30,
)


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("foveate.bench.machine.usable_cores", lambda: 2)


def judge(gpu: GpuState | None = None, **changes: Any) -> Machine:
    """Judge ten seconds in which this process kept one of two cores busy."""
    after = replace(QUIET, time=110.0, own=20.0, busy=1010.0)
    return describe_machine(QUIET, replace(after, **changes), gpu=gpu, root=Path("/nowhere"))


def gpu_state(**changes: Any) -> GpuState:
    values: dict[str, Any] = {
        "name": "GPU",
        "driver": "580",
        "others": 0,
        "clock_mhz": 1900,
        "highest_mhz": 1980,
        "celsius": 50,
        "throttled": (),
    }
    return GpuState(**(values | changes))


def write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def test_a_quiet_machine_is_fit() -> None:
    found = judge(gpu_state())
    assert found.fit
    assert found.reasons == ()
    assert (found.processor.others, found.processor.steal) == (0.0, 0.0)
    assert found.processor.switches == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"busy": 1011.2}, "other processes took 6% of the processor"),
        ({"busy": None}, "the load of other processes is unknown on this system"),
        ({"stolen": 5.24}, "the hypervisor took 1% of the processor"),
        ({"throttled": 5}, "heat lowered the clock frequency 3 times"),
        ({"quota_throttled": 8}, "the control group's quota stopped the process 1 times"),
        ({"mhz": (2000.0,)}, "the cores ran at 2000 to 3000 MHz"),
    ],
)
def test_a_disturbed_machine_is_unfit(changes: dict[str, Any], reason: str) -> None:
    found = judge(**changes)
    assert not found.fit
    assert found.reasons == (reason,)


@pytest.mark.parametrize("changes", [{"busy": 1010.8}, {"stolen": 5.16}, {"mhz": (2200.0,)}])
def test_a_little_disturbance_is_no_reason(changes: dict[str, Any]) -> None:
    assert judge(**changes).fit


@pytest.mark.parametrize(
    ("load", "reasons"), [(0.4, ()), (0.6, ("the load average was 0.6 on 2 cores before the run",))]
)
def test_a_load_before_the_run_is_a_reason(load: float, reasons: tuple[str, ...]) -> None:
    before = replace(QUIET, load=load)
    after = replace(QUIET, time=110.0, own=20.0, busy=1010.0)
    assert describe_machine(before, after, root=Path("/nowhere")).reasons == reasons


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"others": 1}, "1 other process used the GPU"),
        ({"others": 2}, "2 other processes used the GPU"),
        ({"others": None}, "whether other processes used the GPU is unknown"),
        ({"throttled": ("heat",)}, "the clock of the GPU was lowered (heat)"),
    ],
)
def test_a_disturbed_gpu_is_unfit(changes: dict[str, Any], reason: str) -> None:
    assert judge(gpu_state(**changes)).reasons == (reason,)


def test_counters_are_read_from_the_system(tmp_path: Path) -> None:
    write(tmp_path, "proc/stat", "cpu  100 20 30 4000 50 6 7 80 0 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n")
    write(tmp_path, "proc/loadavg", "1.25 0.5 0.1 2/300 4000\n")
    write(
        tmp_path, "proc/cpuinfo", "model name\t: Some CPU\ncpu MHz\t\t: 2100.5\ncpu MHz\t: 2200\n"
    )
    write(tmp_path, "proc/self/cgroup", "0::/jobs/one\n")
    write(tmp_path, "sys/fs/cgroup/jobs/one/cpu.stat", "nr_periods 9\nnr_throttled 4\n")
    for core in (0, 1):
        folder = f"sys/devices/system/cpu/cpu{core}"
        write(tmp_path, f"{folder}/thermal_throttle/core_throttle_count", "3\n")
    write(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")
    found = take_snapshot(tmp_path)
    assert found.busy == pytest.approx(1.63)  # ticks of 10 ms, without idle, waiting and steal
    assert found.stolen == pytest.approx(0.80)
    assert (found.load, found.mhz) == (1.25, (2100.5, 2200.0))
    assert (found.throttled, found.quota_throttled) == (6, 4)
    processor = describe_machine(found, found, root=tmp_path).processor
    assert (processor.name, processor.governor) == ("Some CPU", "performance")


def test_a_system_without_counters_has_none(tmp_path: Path) -> None:
    found = take_snapshot(tmp_path)
    assert (found.busy, found.stolen, found.load, found.throttled) == (None,) * 4
    assert found.mhz == ()
    assert describe_machine(found, found, root=tmp_path).processor.highest_mhz is None


def test_the_energy_of_processor_packages(tmp_path: Path) -> None:
    assert EnergyMeter(None, tmp_path).counter is None
    assert EnergyMeter(None, tmp_path).joules() is None
    domains = {"0": "package-0", "0:0": "core", "1": "package-1", "2": "psys"}
    for (domain, name), energy in zip(domains.items(), (1_500_000, 7, 2_000_000, 9), strict=True):
        write(tmp_path, f"sys/class/powercap/intel-rapl:{domain}/name", f"{name}\n")
        write(tmp_path, f"sys/class/powercap/intel-rapl:{domain}/energy_uj", f"{energy}\n")
    meter = EnergyMeter(None, tmp_path)
    assert meter.counter == "RAPL, processor packages"
    assert meter.joules() == 3.5


EVENT_REASONS = "nvmlDeviceGetCurrentClocksEventReasons"


class ScriptedNvml:
    """NVML with a GPU, which notes the address on the bus.

    Some functions may be unsupported, and it has one name only of the reasons for its clock.
    """

    def __init__(self, *unsupported: str, processes: int = 0, reasons: str = EVENT_REASONS) -> None:
        self._unsupported, self._processes, self._reasons = unsupported, processes, reasons
        self.bus = b""

    def __getattr__(self, name: str) -> Any:
        values = {
            "nvmlDeviceGetTotalEnergyConsumption": 2500,
            self._reasons: 0x1 | 0x20 | 0x4,
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetClockInfo": 1755,
            "nvmlDeviceGetMaxClockInfo": 1980,
        }
        texts = {"nvmlDeviceGetName": b"Some GPU", "nvmlSystemGetDriverVersion": b"580.1"}
        if name.endswith("Reasons") and name != self._reasons:
            raise AttributeError(name)

        def function(*arguments: Any) -> int:
            if name in self._unsupported:
                return 3
            if name == "nvmlDeviceGetHandleByPciBusId_v2":
                self.bus = arguments[0]
            elif name == "nvmlDeviceGetComputeRunningProcesses_v3":
                ctypes.cast(arguments[1], ctypes.POINTER(ctypes.c_uint))[0] = self._processes
            elif name in values:
                kind = (
                    ctypes.c_ulonglong if "Energy" in name or "Reasons" in name else ctypes.c_uint
                )
                ctypes.cast(arguments[-1], ctypes.POINTER(kind))[0] = values[name]
            elif name in texts:
                arguments[-2].value = texts[name]
            return 0

        return function


# Drivers before 535 have the second name only, which is deprecated.
@pytest.mark.parametrize("reasons", [EVENT_REASONS, "nvmlDeviceGetCurrentClocksThrottleReasons"])
def test_the_state_of_a_gpu(reasons: str) -> None:
    nvml = ScriptedNvml(processes=2, reasons=reasons)
    counters = GpuCounters(nvml, b"0000:01:00.0")
    assert nvml.bus == b"0000:01:00.0"
    assert counters.state() == GpuState(
        name="Some GPU",
        driver="580.1",
        others=1,
        clock_mhz=1755,
        highest_mhz=1980,
        celsius=61,
        throttled=("power cap", "heat"),
    )
    assert counters.joules() == 2.5
    assert EnergyMeter(counters).counter == "NVML, GPU only"


def test_a_gpu_that_hides_its_processes_has_no_others() -> None:
    assert GpuCounters(ScriptedNvml(processes=0), b"").state().others == 0


def test_counters_that_a_gpu_does_not_have_are_none() -> None:
    nvml = ScriptedNvml(
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        EVENT_REASONS,
    )
    counters = GpuCounters(nvml, b"")
    assert counters.joules() is None
    assert (counters.state().others, counters.state().throttled) == (None, None)
    assert EnergyMeter(counters).counter is None


def test_a_function_that_the_library_lost_is_a_counter_that_is_none() -> None:
    nvml = ScriptedNvml(reasons="nvmlDeviceGetOtherReasons")
    assert GpuCounters(nvml, b"").state().throttled is None


def test_a_library_that_does_not_start_has_no_counters() -> None:
    state = GpuCounters(ScriptedNvml("nvmlInit_v2"), b"").state()
    assert (state.name, state.driver, state.clock_mhz) == ("GPU", None, None)
