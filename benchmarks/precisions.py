# SPDX-License-Identifier: Apache-2.0
"""Time of bundles of one network in several precisions, end to end and stage by stage.

    python benchmarks/precisions.py mini mini-int8 --json benchmarks/results/precisions.json

All bundles run in one process, alternating, on the same image. Ratios are computed per round, relative
to the first bundle. The time of a stage is that of its work on its stream.
"""

from __future__ import annotations

import time
from pathlib import Path

import foveate
from figures import Cell, Conditions, Figure, Measurement, Result, begin, conditions, report
from foveate.arrays import UInt8Array
from foveate.tracing.clock import SystemClock
from foveate.tracing.image_trace import total_times
from foveate.tracing.recording import Recorder, record_pipeline
from measuring import Seconds, parser_of, photograph, ratio

WARM_UP = 2
WHOLE = "one image, end to end"
TITLE = "Precisions"
QUESTION = """\
How much faster one image of 640x480 is in int8, end to end and stage by stage. `foveate export
--precision int8` makes the second bundle. The time of a stage is that of its work on its stream."""


def main() -> None:
    """Measure the bundles and print the result."""
    parser = parser_of(__doc__, rounds=25)
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    image = photograph()
    measurements = []
    for threads in arguments.threads:
        before = begin(threads=threads, pairs=arguments.rounds)
        measured = _compared(arguments.bundles, threads, image, arguments.rounds)
        given = conditions(before, "onnxruntime-gpu", "numpy")
        names = [Path(one).name for one in arguments.bundles]
        measurements.append(_measurement(names, threads, measured, given))
    result = Result(title=TITLE, question=QUESTION, measurements=tuple(measurements))
    report(result, arguments.json)


def _measurement(
    names: list[str], threads: int, measured: dict[str, Seconds], given: Conditions
) -> Measurement:
    base, *others = names
    columns = ["stage", f"`{base}`, s", *(f"speed-up by `{name}`" for name in others)]
    rows: list[tuple[Cell, ...]] = [
        (stage, Figure.of(seconds), *(ratio(seconds, measured[name][stage]) for name in others))
        for stage, seconds in measured[base].items()
    ]
    return Measurement(
        caption=f"`{base}` with {threads} thread{'s' if threads > 1 else ''}:",
        conditions=given,
        columns=tuple(columns),
        rows=tuple(rows),
    )


def _compared(names: list[str], threads: int, image: UInt8Array, rounds: int) -> dict[str, Seconds]:
    measured = {Path(name).name: Measured(name, threads) for name in names}
    for own in measured.values():
        for _ in range(WARM_UP):
            own.run(image)
        own.forget()
    for _ in range(rounds):
        for own in measured.values():
            own.run(image)
    return {name: own.seconds for name, own in measured.items()}


class Measured:
    """The pipeline of a bundle, and its seconds per round."""

    def __init__(self, name: str, threads: int) -> None:
        options = foveate.PipelineOptions(threads=threads)
        pipeline = foveate.load(name, device="cpu", options=options)
        self._recorder = Recorder(SystemClock())
        self._pipeline = record_pipeline(self._recorder, pipeline)
        self._run = self._pipeline if "classify" in pipeline.engines else self._pipeline.propose
        self.seconds: Seconds = {stage: [] for stage in (WHOLE, *pipeline.engines)}

    def run(self, image: UInt8Array) -> None:
        """Measure one round."""
        trace, start = self._recorder.begin(0), time.perf_counter()
        self._run(image)
        times = {WHOLE: time.perf_counter() - start, **total_times(trace, "network")}
        for stage, values in self.seconds.items():
            values.append(times[stage])

    def forget(self) -> None:
        """Discard the rounds measured so far."""
        for values in self.seconds.values():
            values.clear()


if __name__ == "__main__":
    main()
