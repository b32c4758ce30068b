# SPDX-License-Identifier: Apache-2.0
"""Advice: what bounds a pipeline, with the number that shows it, and what to try."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace

from foveate.bench.command import Command

# Shares from which on a part of the time is worth a sentence.
_BUSY = 0.05  # of the processor, taken by others; half of it is the noise of a quiet machine
_FLOOR = 0.1  # of the latency; figures below ten times the floor measure the harness more than the pipeline
_WAITING = 0.25  # of the latency
_PART = 0.2  # of the processing, for copies, idle time and operations
_STAGE = 0.3  # of the processing, for the slowest stage
_SCHEDULE = ("--rate", "--p99")  # options that only the scenario "server" takes
NEAR = 0.6  # of the ceiling; above it another implementation gains little


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A sentence about what bounds the pipeline.

    Args:
        kind: "busy", "floor", "waiting", "copies", "launches", "host", "operations", "threads",
            "arithmetic", "memory" or "layers".
        text: The sentence, with the number that shows it.
        command: The command to try.
    """

    kind: str
    text: str
    command: str

    def __str__(self) -> str:
        return f"{self.text} Try: {self.command}"


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """The time of a stage.

    Args:
        name: Name of the stage.
        seconds: Median time per image.
        precision: ``"fp32"``, ``"fp16"`` or ``"int8"``.
        bound: Its lower ceiling, ``"arithmetic"`` or ``"memory"``, or None if it is not known.
        ratio: Share of that ceiling that it reaches, or None.
    """

    name: str
    seconds: float
    precision: str
    bound: str | None = None
    ratio: float | None = None


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The figures of a benchmark that advice is derived from; times are medians per image.

    Args:
        command: The command that measured them, which advice repeats with a change.
        scenario: ``"single-stream"``, ``"offline"`` or ``"server"``.
        device: ``"cpu"`` or ``"cuda"``.
        backend: Name of the backend that runs the networks.
        top_k: Number of proposals per image.
        in_flight: Number of images that were processed at a time.
        latency: Seconds from the intended arrival to the result.
        waiting: Seconds of it before the start.
        floor: Latency in seconds of a pipeline that does nothing.
        copies: Seconds of copies between the memory of the CPU and that of the device.
        operations: Seconds of all operations between the networks.
        idle: Seconds after the start in which the device does nothing.
        stages: Times of the networks.
        threads: Number of threads per network on a CPU.
        cores: Number of cores that the process may use.
        others: Processor time that other processes and the hypervisor took, as a share of all
            cores; None if it is not known.
    """

    command: Command
    scenario: str
    device: str
    backend: str
    top_k: int
    in_flight: int
    latency: float
    waiting: float = 0.0
    floor: float = 0.0
    copies: float = 0.0
    operations: float = 0.0
    idle: float = 0.0
    stages: tuple[StageTime, ...] = ()
    threads: int = 1
    cores: int = 1
    others: float | None = None

    @property
    def processing(self) -> float:
        """Seconds from the start to the result."""
        return self.latency - self.waiting

    @property
    def on_cpu(self) -> bool:
        """Whether a CPU runs the pipeline."""
        return self.device == "cpu"


def search_command(command: Command, bound: float) -> str:
    """Return the command that searches the highest rate that holds a bound, in seconds."""
    changes = {"--scenario": "server", "--p99": f"{bound:.3g}"}
    return command.changed(changes, without=("--rate", "--count", "--seconds", "--against"))


def advise(found: Situation) -> list[Advice]:
    """Return what bounds the pipeline, the most general first.

    On a busy machine, and near the floor of the harness, the other figures do not describe the
    pipeline, so that there is no other advice.
    """
    doubts = [*_busy(found), *_floor(found)]
    return doubts or [
        *_waiting(found),
        *_copies(found),
        *_idle(found),
        *_operations(found),
        *(list(_threads(found)) or _slowest_stage(found)),
    ]


def _busy(found: Situation) -> Iterator[Advice]:
    if found.others is not None and found.others >= _BUSY:
        yield Advice(
            kind="busy",
            text=f"Others took {found.others:.0%} of the processor during the run, so that the "
            "times are longer than those of the pipeline. Measure again on a quiet machine.",
            command=found.command.changed({}),
        )


def _floor(found: Situation) -> Iterator[Advice]:
    share = found.floor / found.latency
    if share >= _FLOOR:
        yield Advice(
            kind="floor",
            text=f"The harness itself takes {_ms(found.floor)} of {_ms(found.latency)} "
            f"({share:.0%}), too much to tell what bounds the pipeline.",
            command=_more_work(found),
        )


def _waiting(found: Situation) -> Iterator[Advice]:
    # Offline all images wait from the beginning.
    share = found.waiting / found.latency
    if found.scenario == "server" and share >= _WAITING:
        yield Advice(
            kind="waiting",
            text=f"An image waits {_ms(found.waiting)} of {_ms(found.latency)} ({share:.0%}) "
            "before it starts: images arrive faster than the pipeline takes them. Search the "
            "highest rate that it holds.",
            command=search_command(found.command, 2 * found.processing),
        )


def _copies(found: Situation) -> Iterator[Advice]:
    share = found.copies / found.processing
    if share >= _PART:
        yield Advice(
            kind="copies",
            text=f"Copies between the CPU and the device take {_part(found, found.copies)}. "
            "Leave images and results on the device.",
            command="pipeline(image, on_device=True)",
        )


def _idle(found: Situation) -> Iterator[Advice]:
    if found.idle / found.processing < _PART:
        return
    part = _part(found, found.idle)
    if found.on_cpu:
        yield Advice(
            kind="host",
            text=f"Neither networks nor operations run for {part}: the time goes into Python.",
            command=f"py-spy record --output profile.svg -- {found.command.changed({})}",
        )
    elif found.backend.startswith("tensorrt"):
        yield Advice(
            kind="host",
            text=f"The GPU does nothing for {part}, although its work is launched as one graph. "
            "More images in flight can fill it.",
            command=found.command.changed(
                {"--scenario": "offline", "--max-in-flight": max(4, 2 * found.in_flight)},
                without=_SCHEDULE,
            ),
        )
    else:
        yield Advice(
            kind="launches",
            text=f"The GPU does nothing for {part}: it waits for launches by the CPU. Engines "
            "of TensorRT are launched as one graph.",
            command=f"foveate compile {shlex.quote(found.command.arguments[0])} --target tensorrt",
        )


def _operations(found: Situation) -> Iterator[Advice]:
    if found.operations / found.processing >= _PART:
        yield Advice(
            kind="operations",
            text="Operations between the networks take "
            f"{_part(found, found.operations)}; they grow with the number of windows.",
            command=_fewer_windows(found),
        )


def _threads(found: Situation) -> Iterator[Advice]:
    if found.on_cpu and found.threads < found.cores:
        yield Advice(
            kind="threads",
            text=f"The networks use {found.threads} of {found.cores} cores.",
            command=found.command.changed({"--threads": found.cores}),
        )


def _slowest_stage(found: Situation) -> Iterator[Advice]:
    slowest = max(found.stages, key=lambda stage: stage.seconds, default=None)
    if (
        slowest is None
        or slowest.bound is None
        or slowest.ratio is None
        or slowest.seconds / found.processing < _STAGE
    ):
        return
    takes = f"{slowest.name} takes {_part(found, slowest.seconds)} and reaches {slowest.ratio:.0%}"
    if slowest.ratio < NEAR:
        yield Advice(
            kind="layers",
            text=f"{takes} of what arithmetic and memory allow: the time goes into how its layers "
            "are run.",
            command=_other_backend(found),
        )
    elif slowest.bound == "arithmetic":
        yield Advice(
            kind="arithmetic",
            text=f"{takes} of what the arithmetic of this machine allows: only fewer or cheaper "
            "operations make it faster.",
            command=_cheaper(found, slowest),
        )
    else:
        yield Advice(
            kind="memory",
            text=f"{takes} of what the memory allows: only fewer bytes make it faster.",
            command=_cheaper(found, slowest),
        )


def _more_work(found: Situation) -> str:
    """Return the command that measures without pauses between images or, if it did, larger ones."""
    if found.scenario == "offline":
        bundle = found.command.arguments[:1]
        return replace(found.command, arguments=(*bundle, "LARGER_IMAGES")).changed({})
    return found.command.changed({"--scenario": "offline"}, without=_SCHEDULE)


def _cheaper(found: Situation, stage: StageTime) -> str:
    """Return the command for a cheaper precision or, where there is none, for less work."""
    cheaper = "int8" if found.on_cpu else "fp16"
    if stage.precision == "fp32":
        return f"foveate export CHECKPOINT --output BUNDLE --precision {stage.name}={cheaper}"
    if stage.name in ("refine", "classify"):
        return _fewer_windows(found)
    return "foveate export CHECKPOINT --output BUNDLE --max-side 640"


def _fewer_windows(found: Situation) -> str:
    return found.command.changed({"--top-k": max(1, min(50, found.top_k // 2))})


def _other_backend(found: Situation) -> str:
    """Return the command that measures in turns with PyTorch, which needs a closed loop."""
    rival = "onnxruntime" if found.backend == "torch" else "torch"
    without = ("--scenario", *_SCHEDULE) if found.scenario == "server" else ()
    return found.command.changed({"--against": rival}, without=without)


def _part(found: Situation, seconds: float) -> str:
    return f"{_ms(seconds)} of {_ms(found.processing)} ({seconds / found.processing:.0%})"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds >= 0.1 else f"{1e3 * seconds:.3g} ms"
