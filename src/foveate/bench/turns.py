# SPDX-License-Identifier: Apache-2.0
"""Two pipelines that are measured in turns, so that both meet the same state of the machine."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from math import ceil
from typing import TYPE_CHECKING

from foveate.bench.stopping import Stopping
from foveate.errors import OptionError

if TYPE_CHECKING:
    from foveate.bench.benchmark import Benchmark

# Images per turn and image in flight, so that the pipeline is full for most of a turn.
_IMAGES_PER_TURN = 8


def run_in_turns(
    candidate: Benchmark, baseline: Benchmark, images: int, *, turns: int | None = None
) -> None:
    """Measure two pipelines in the order A B B A, which a steady drift does not favor.

    Each turn has whole passes through the images. With ``turns``, each pipeline has that number of
    turns, and one more if it is odd. Otherwise, the turns end when the percentiles of both are
    stable, or after twice the time of the options, which both share.

    Raises:
        OptionError: The scenario has a schedule, which turns would interrupt.
    """
    options = candidate.options
    if options.scenario == "server":
        raise OptionError(
            "turns would interrupt the schedule of the scenario 'server'",
            remedy="use --scenario single-stream or offline, or compare two records",
        )
    passes = 1
    if options.scenario == "offline":
        passes = ceil(_IMAGES_PER_TURN * candidate.in_flight / images)
    runs = (candidate, baseline)
    for run in runs:
        run.warm_up()
    for run in runs:
        run.begin()
    doubled = replace(options, seconds=2 * options.time_limit)
    stops = [Stopping(doubled, run.clock) for run in runs]
    for block in count():
        # A B, then B A.
        for index in (0, 1) if block % 2 == 0 else (1, 0):
            indices = [*range(images)] * passes
            runs[index].measure(indices, stops[index].note, block=block)
        over = all(stop.is_over() for stop in stops) if turns is None else block + 1 >= turns
        if block % 2 and over:
            break
    for run, stop in zip(runs, stops, strict=True):
        run.end(stop.reason if turns is None else "count")
