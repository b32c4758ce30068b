# SPDX-License-Identifier: Apache-2.0
"""Time of bundles of one network in several precisions, end to end and stage by stage.

    python benchmarks/precisions.py mini mini-int8 --json benchmarks/results/precisions.json

All bundles run in one process, alternating, on the same image. Ratios are computed per round, relative
to the first bundle. The time of a stage is that between its neighbors on its stream.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import foveate
from foveate.arrays import UInt8Array
from foveate.bundle import Bundle
from foveate.runtime import Pipeline
from foveate.runtime.devices import Buffer, CpuDevice, Stream
from foveate.runtime.devices.cpu import cpu_stream
from foveate.runtime.engines import Engine
from foveate.runtime.loading import open_engines

WARM_UP = 2
WHOLE = "image"
Seconds = dict[str, list[float]]
"""Seconds per round, by stage or ``WHOLE``."""


def main() -> None:
    """Measure the bundles and print the result."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("bundles", nargs="+")
    parser.add_argument(
        "--image", type=Path, help="Image, which is scaled to 640x480; the cat by default."
    )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="File of the result.")
    arguments = parser.parse_args()
    image = _image(arguments.image)
    result = {
        "machine": _processor(),
        "versions": {name: metadata.version(name) for name in ("onnxruntime-gpu", "numpy")},
        "image": [image.shape[1], image.shape[0]],
        "rounds": arguments.rounds,
        "threads": {
            str(threads): _compared(arguments.bundles, threads, image, arguments.rounds)
            for threads in arguments.threads
        },
    }
    print(_table(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


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


def _compared(names: list[str], threads: int, image: UInt8Array, rounds: int) -> dict[str, Any]:
    measured = {name: Measured(name, threads) for name in names}
    for own in measured.values():
        for _ in range(WARM_UP):
            own.run(image)
        own.forget()
    for _ in range(rounds):
        for own in measured.values():
            own.run(image)
    base = measured[names[0]].seconds
    return {Path(name).name: _summary(own.seconds, base) for name, own in measured.items()}


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


def _summary(seconds: Seconds, base: Seconds) -> dict[str, dict[str, dict[str, float]]]:
    return {
        stage: {
            "seconds": _spread(values),
            "faster": _spread([was / own for was, own in zip(base[stage], values, strict=True)]),
        }
        for stage, values in seconds.items()
    }


def _spread(values: list[float]) -> dict[str, float]:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"median": float(middle), "low": float(low), "high": float(high)}


def _image(path: Path | None) -> UInt8Array:
    path = path or Path(foveate.__file__).parent / "assets" / "images" / "cat.jpg"
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise SystemExit(f"precisions.py: {path} is no image")
    return cv2.resize(image, (640, 480), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    said = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    used = [name for name in ("avx2", "avx512_vnni", "amx_int8") if name in flags]
    return f"{said[0]} ({', '.join(used)})"


def _table(result: Mapping[str, Any]) -> str:
    lines = [f"{result['machine']}, {result['rounds']} rounds, image {result['image']}"]
    for threads, bundles in result["threads"].items():
        for name, stages in bundles.items():
            lines.append(f"{name}, {threads} thread(s)")
            for stage, figures in stages.items():
                seconds, faster = figures["seconds"], figures["faster"]
                spread = f"{faster['low']:.2f} to {faster['high']:.2f}"
                lines.append(
                    f"  {stage:10} {seconds['median']:7.3f} s  {faster['median']:.2f} ({spread})"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
