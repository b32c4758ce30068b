# SPDX-License-Identifier: Apache-2.0
"""Advice: what bounds a pipeline, with the number that shows it, and what to try."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.bench.figures import Distribution
    from foveate.bench.record import Record

# Shares from which on a part of the time is worth a sentence.
_BUSY = 0.05  # of the processor, taken by others; half of it is the noise of a quiet machine
_FLOOR = 0.1  # of the latency; figures below ten times the floor measure the harness more than the pipeline
_WAITING = 0.25  # of the latency
_PART = 0.2  # of the processing, for copies, idle time and operations
_STAGE = 0.3  # of the processing, for the slowest stage
_SCHEDULE = ("--rate", "--p99")  # options that only the scenario "server" takes
NEAR = 0.6  # of the ceiling; above it another implementation gains little


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line of ``foveate bench``, without the files that it writes.

    Args:
        arguments: The bundle and the images.
        options: Values of the options that were given, such as ``{"--threads": "2"}``; empty for
            an option without a value.
    """

    arguments: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)

    def changed(self, changes: Mapping[str, str | int], *, without: tuple[str, ...] = ()) -> str:
        """Return the command line with other values of some options, and without others."""
        kept = {name: value for name, value in self.options.items() if name not in without}
        words = ["foveate", "bench", *self.arguments]
        for name, value in {**kept, **changes}.items():
            words += [name, str(value)] if value != "" else [name]
        return shlex.join(words)


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


class _Situation:
    """The figures of a record that advice is derived from; times are medians in seconds per image."""

    def __init__(self, record: Record, command: Command, top_k: int) -> None:
        parts, processor, subject = record.parts, record.machine.processor, record.subject
        self.record, self.command, self.top_k = record, command, top_k
        self.scenario, self.backend = record.scenario.name, subject.backend or ""
        self.on_cpu = subject.device == "cpu"
        self.latency, self.waiting = _median(record.latency), _median(record.waiting)
        self.processing = self.latency - self.waiting
        self.floor = 0.0 if record.floor is None else _median(record.floor.latency)
        self.copies = _median(parts.copies)
        self.operations = sum(map(_median, record.operations.values()))
        self.idle = 0.0
        if parts.device is not None:
            self.idle = max(0.0, _median(parts.processing) - _median(parts.device))
        # Share of the processor that other processes and the hypervisor took.
        self.others = (processor.others or 0.0) + (processor.steal or 0.0)

    def part(self, seconds: float) -> str:
        """Return a part of the processing in words."""
        return f"{_ms(seconds)} of {_ms(self.processing)} ({seconds / self.processing:.0%})"


def search_command(command: Command, bound: float) -> str:
    """Return the command that searches the highest rate that holds a bound, in seconds."""
    changes = {"--scenario": "server", "--p99": f"{bound:.3g}"}
    return command.changed(changes, without=("--rate", "--count", "--seconds", "--against"))


def advise(record: Record, command: Command, *, top_k: int) -> list[Advice]:
    """Return what bounds a pipeline, the most general first.

    On a busy machine, and near the floor of the harness, the other figures do not describe the
    pipeline, so that there is no other advice.

    Args:
        record: Record with limits and a median of the latency.
        command: The command that measured it, which advice repeats with a change.
        top_k: Number of proposals per image.
    """
    found = _Situation(record, command, top_k)
    doubts = [*_busy(found), *_floor(found)]
    return doubts or [
        *_waiting(found),
        *_copies(found),
        *_idle(found),
        *_operations(found),
        *(list(_threads(found)) or _slowest_stage(found)),
    ]


def _busy(found: _Situation) -> Iterator[Advice]:
    if found.others >= _BUSY:
        yield Advice(
            kind="busy",
            text=f"Others took {found.others:.0%} of the processor during the run, so that the "
            "times are longer than those of the pipeline. Measure again on a quiet machine.",
            command=found.command.changed({}),
        )


def _floor(found: _Situation) -> Iterator[Advice]:
    share = found.floor / found.latency
    if share >= _FLOOR:
        yield Advice(
            kind="floor",
            text=f"The harness itself takes {_ms(found.floor)} of {_ms(found.latency)} "
            f"({share:.0%}), too much to tell what bounds the pipeline.",
            command=_more_work(found),
        )


def _waiting(found: _Situation) -> Iterator[Advice]:
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


def _copies(found: _Situation) -> Iterator[Advice]:
    share = found.copies / found.processing
    if share >= _PART:
        yield Advice(
            kind="copies",
            text=f"Copies between the CPU and the device take {found.part(found.copies)}. "
            "Leave images and results on the device.",
            command="pipeline(image, on_device=True)",
        )


def _idle(found: _Situation) -> Iterator[Advice]:
    if found.idle / found.processing < _PART:
        return
    part = found.part(found.idle)
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
                {
                    "--scenario": "offline",
                    "--max-in-flight": max(4, 2 * found.record.scenario.in_flight),
                },
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


def _operations(found: _Situation) -> Iterator[Advice]:
    if found.operations / found.processing >= _PART:
        yield Advice(
            kind="operations",
            text="Operations between the networks take "
            f"{found.part(found.operations)}; they grow with the number of windows.",
            command=_fewer_windows(found),
        )


def _threads(found: _Situation) -> Iterator[Advice]:
    threads, cores = found.record.subject.threads, found.record.machine.processor.cores
    if found.on_cpu and threads is not None and threads < cores:
        yield Advice(
            kind="threads",
            text=f"The networks use {threads} of {cores} cores.",
            command=found.command.changed({"--threads": cores}),
        )


def _slowest_stage(found: _Situation) -> Iterator[Advice]:
    limits = found.record.limits
    if limits is None or not found.record.stages:
        return
    name, seconds = max(
        ((name, _median(times)) for name, times in found.record.stages.items()),
        key=lambda one: one[1],
    )
    line = limits["stages"].get(name, {}).get("roofline")
    if not line or line["ratio"] is None or seconds / found.processing < _STAGE:
        return
    takes = f"{name} takes {found.part(seconds)} and reaches {line['ratio']:.0%}"
    if line["ratio"] < NEAR:
        yield Advice(
            kind="layers",
            text=f"{takes} of what arithmetic and memory allow: the time goes into how its layers "
            "are run.",
            command=_other_backend(found),
        )
    elif line["bound"] == "arithmetic":
        yield Advice(
            kind="arithmetic",
            text=f"{takes} of what the arithmetic of this machine allows: only fewer or cheaper "
            "operations make it faster.",
            command=_cheaper(found, name),
        )
    else:
        yield Advice(
            kind="memory",
            text=f"{takes} of what the memory allows: only fewer bytes make it faster.",
            command=_cheaper(found, name),
        )


def _more_work(found: _Situation) -> str:
    """Return the command that measures without pauses between images or, if it did, larger ones."""
    if found.scenario == "offline":
        bundle = found.command.arguments[:1]
        return replace(found.command, arguments=(*bundle, "LARGER_IMAGES")).changed({})
    return found.command.changed({"--scenario": "offline"}, without=_SCHEDULE)


def _cheaper(found: _Situation, stage: str) -> str:
    """Return the command for a cheaper precision or, where there is none, for less work."""
    cheaper = "int8" if found.on_cpu else "fp16"
    if found.record.subject.precision.get(stage, "fp32") == "fp32":
        return f"foveate export CHECKPOINT --output BUNDLE --precision {stage}={cheaper}"
    if stage in ("refine", "classify"):
        return _fewer_windows(found)
    return "foveate export CHECKPOINT --output BUNDLE --max-side 640"


def _fewer_windows(found: _Situation) -> str:
    return found.command.changed({"--top-k": max(1, min(50, found.top_k // 2))})


def _other_backend(found: _Situation) -> str:
    """Return the command that measures in turns with PyTorch, which needs a closed loop."""
    rival = "onnxruntime" if found.backend == "torch" else "torch"
    without = ("--scenario", *_SCHEDULE) if found.scenario == "server" else ()
    return found.command.changed({"--against": rival}, without=without)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds >= 0.1 else f"{1e3 * seconds:.3g} ms"


def _median(times: Distribution | None) -> float:
    """Return a median, or 0 if it was not measured."""
    return (times and times.median) or 0.0
