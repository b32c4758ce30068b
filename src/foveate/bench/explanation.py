# SPDX-License-Identifier: Apache-2.0
"""Limits and advice for a record: how near its networks come to the machine, and what to try."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from statistics import median
from typing import TYPE_CHECKING

from foveate.bench.advice import Advice, Situation, StageTime, advise
from foveate.bench.ceilings import measure_ceilings
from foveate.bench.limits import Limits, count_stages, limits_of
from foveate.runtime.sizes import Sizes
from foveate.system.resources import usable_cores

if TYPE_CHECKING:
    from foveate.bench.command import Command
    from foveate.bench.figures import Distribution
    from foveate.bench.record import Record
    from foveate.bench.session import Target
    from foveate.bundle import Bundle, Manifest


def explained(record: Record, target: Target, bundle: Bundle, command: Command) -> Record:
    """Return a record of at least one image with the limits of its networks and with advice.

    The limits are those of the image that was measured most often, since work depends on the size
    of an image. This runs every network once and measures the ceilings of the CPU, after the
    measurement.

    Raises:
        BackendError: Memory or threads run out.
    """
    manifest = target.options.applied_to(bundle.manifest)
    limits = _limits(record, manifest, bundle)
    advice: tuple[Advice, ...] | None = None
    if record.latency.percentile(50).value:  # else there were too few images for a median
        situation = _situation(record, limits, command, top_k=manifest.select.top_k)
        advice = tuple(advise(situation))
    return replace(record, limits=asdict(limits), advice=advice)


def _limits(record: Record, manifest: Manifest, bundle: Bundle) -> Limits:
    chosen = _most_frequent_input(record)
    image = record.inputs[chosen]
    sizes = Sizes.of(image.height, image.width, manifest)
    on_cpu, threads = record.subject.device == "cpu", record.subject.threads or usable_cores()
    boxes = min(manifest.select.top_k, sizes.windows)
    work = count_stages(bundle, manifest, sizes, boxes=boxes, on_cpu=on_cpu, threads=threads)
    times = {
        stage: _median_of(record, values, chosen) for stage, values in record.samples.stages.items()
    }
    measured = {stage: seconds for stage, seconds in times.items() if seconds}
    kinds = {kind for one in work.values() for kind in one.operations_by_kind()}
    ceilings = measure_ceilings(kinds, threads=threads) if on_cpu else None
    return limits_of(work, manifest, ceilings, measured)


def _most_frequent_input(record: Record) -> int:
    samples = record.samples
    pairs = zip(samples.input, samples.warm_up, strict=True)
    return Counter(number for number, warm_up in pairs if not warm_up).most_common(1)[0][0]


def _median_of(record: Record, values: tuple[float | None, ...], chosen: int) -> float | None:
    """Return the median of the values of an image, without the warm-up."""
    samples = record.samples
    rows = zip(values, samples.input, samples.warm_up, strict=True)
    kept = [value for value, number, warm_up in rows if number == chosen and not warm_up]
    known = [value for value in kept if value is not None]
    return median(known) if known else None


def _situation(record: Record, limits: Limits, command: Command, *, top_k: int) -> Situation:
    parts, processor, subject = record.parts, record.machine.processor, record.subject
    assert subject.device is not None  # only a server does not report them
    assert subject.backend is not None
    operations = [one.percentile(50).value or 0.0 for one in record.operations.values()]
    stages = []
    for name, one in record.stages.items():
        line = limits.stages[name].roofline if name in limits.stages else None
        stages.append(
            StageTime(
                name=name,
                seconds=one.percentile(50).value or 0.0,
                precision=record.subject.precision.get(name, "fp32"),
                bound=None if line is None else line.bound,
                ratio=None if line is None else line.ratio,
            )
        )
    busy = [share for share in (processor.others, processor.steal) if share is not None]
    processing, device = (_middle(one) for one in (parts.processing, parts.device))
    return Situation(
        command=command,
        scenario=record.scenario.name,
        device=subject.device,
        backend=subject.backend,
        top_k=top_k,
        in_flight=record.scenario.in_flight,
        latency=_middle(record.latency),
        waiting=_middle(record.waiting),
        floor=0.0 if record.floor is None else _middle(record.floor.latency),
        copies=_middle(parts.copies),
        operations=sum(operations),
        idle=max(0.0, processing - device) if parts.device is not None else 0.0,
        stages=tuple(stages),
        threads=record.subject.threads or processor.cores,
        cores=processor.cores,
        others=sum(busy) if busy else None,
    )


def _middle(one: Distribution | None) -> float:
    value = None if one is None else one.percentile(50).value
    return value or 0.0
