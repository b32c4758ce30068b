# SPDX-License-Identifier: Apache-2.0
"""Time of bundles of one network in several precisions, end to end and stage by stage.

    python benchmarks/precisions.py mini mini-int8 --json benchmarks/results/precisions.json

All bundles run in one process, alternating, on the same image. Ratios are computed per round, relative
to the first bundle. The time of a stage is that between its neighbors on its stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import foveate
from figures import Cell, Conditions, Figure, Measurement, Result, begin, conditions, report
from foveate.arrays import UInt8Array
from foveate.bundle import Bundle
from foveate.runtime import Pipeline
from foveate.runtime.devices import Buffer, CpuDevice, Stream
from foveate.runtime.devices.cpu import cpu_stream
from foveate.runtime.engines import Engine
from foveate.runtime.loading import open_engines
from measuring import Seconds, parser_of, photograph, ratio

WARM_UP = 2
WHOLE = "one image, end to end"
TITLE = "Precisions"
QUESTION = """\
How much faster one image of 640x480 is in int8, end to end and stage by stage. `foveate export
--precision int8` makes the second bundle. The time of a stage is that between its neighbors on its stream."""


def main() -> None:
    """Measure the bundles and print the result."""
    parser = parser_of(__doc__, rounds=25)
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    image = photograph()
    measurements = []
    for threads in arguments.threads:
        before = begin()
        measured = _compared(arguments.bundles, threads, image, arguments.rounds)
        given = conditions(
            before, threads=threads, pairs=arguments.rounds, packages=("onnxruntime-gpu", "numpy")
        )
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


class TimedEngine:
    """An engine that adds its run time to the last entry of a list."""

    def __init__(self, engine: Engine, seconds: list[float]) -> None:
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.capturable, self.rows_at_once = engine.capturable, engine.rows_at_once
        self.rows_for, self.bind_bytes = engine.rows_for, engine.bind_bytes
        self.close = engine.close
        self._engine, self._seconds = engine, seconds

    def bind(
        self,
        bindings: Mapping[str, Buffer],
        stream: Stream,
        *,
        rows: Buffer | None = None,
        first: int = 0,
    ) -> Callable[[], None]:
        """Prepare runs between two clock readings."""
        run = self._engine.bind(bindings, stream, rows=rows, first=first)

        def timed() -> None:
            cpu_stream(stream).enqueue(self._add, -1)
            run()
            cpu_stream(stream).enqueue(self._add, 1)

        return timed

    def _add(self, sign: int) -> None:
        self._seconds[-1] += sign * time.perf_counter()


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
        bundle = Bundle.open(name)
        engines = open_engines(bundle, CpuDevice(), "auto", threads)
        self.seconds: Seconds = {stage: [] for stage in (WHOLE, *engines)}
        timed = {stage: TimedEngine(own, self.seconds[stage]) for stage, own in engines.items()}
        options = foveate.PipelineOptions(threads=threads)
        self._pipeline = Pipeline(bundle, timed, options=options)
        self._run = self._pipeline if "classify" in engines else self._pipeline.propose

    def run(self, image: UInt8Array) -> None:
        """Measure one round."""
        for values in self.seconds.values():
            values.append(0.0)
        start = time.perf_counter()
        self._run(image)
        self.seconds[WHOLE][-1] = time.perf_counter() - start

    def forget(self) -> None:
        """Discard the rounds measured so far."""
        for values in self.seconds.values():
            values.clear()


if __name__ == "__main__":
    main()
