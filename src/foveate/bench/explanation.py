# SPDX-License-Identifier: Apache-2.0
"""Limits and advice for a record: how near its networks come to the machine, and what to try."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from statistics import median
from typing import TYPE_CHECKING

from foveate.bench.advice import Command, advise
from foveate.bench.ceilings import measure_ceilings
from foveate.bench.limits import Limits, count_stages, limits_of
from foveate.runtime.sizes import Sizes
from foveate.system.resources import usable_cores

if TYPE_CHECKING:
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
    limited = replace(record, limits=asdict(_limits(record, manifest, bundle)))
    if not record.latency.median:  # there were too few images
        return limited
    advice = advise(limited, command, top_k=manifest.select.top_k)
    return replace(limited, advice=tuple(advice))


def _limits(record: Record, manifest: Manifest, bundle: Bundle) -> Limits:
    samples = record.samples
    measured = [row for row, warm_up in enumerate(samples.warm_up) if not warm_up]
    chosen = Counter(samples.input[row] for row in measured).most_common(1)[0][0]
    rows = [row for row in measured if samples.input[row] == chosen]
    image = record.inputs[chosen]
    sizes = Sizes.of(image.height, image.width, manifest)
    on_cpu, threads = record.subject.device == "cpu", record.subject.threads or usable_cores()
    boxes = min(manifest.select.top_k, sizes.windows)
    work = count_stages(bundle, manifest, sizes, boxes=boxes, on_cpu=on_cpu, threads=threads)
    kinds = {kind for one in work.values() for kind in one.operations_by_kind()}
    ceilings = measure_ceilings(kinds, threads=threads) if on_cpu else None
    times = {
        stage: [seconds for row in rows if (seconds := values[row]) is not None]
        for stage, values in samples.stages.items()
    }
    medians = {stage: median(known) for stage, known in times.items() if known}
    return limits_of(work, manifest, ceilings, medians)
