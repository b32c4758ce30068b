# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory against pixels, proposals and images.

    python benchmarks/scaling.py pixels --json benchmarks/results/scaling.json
    python benchmarks/scaling.py full-resolution --json benchmarks/results/scaling.json
    python benchmarks/scaling.py proposals --json benchmarks/results/scaling.json
    python benchmarks/scaling.py images --json benchmarks/results/scaling.json

Each row of pixels and of proposals is a process of its own, so that its peak is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice

import foveate
from figures import Cell, Figure, Measurement, Result, begin, conditions, report
from measuring import parser_of, photograph, status_of

TITLE = "Scaling"
QUESTION = """\
How time and memory of `mini` grow with the pixels of an image, with the number of proposals K, and with the number of
images. At most linear growth is the aim, and no growth of memory after the first 50 images. Times are those from an
array to detections; processor time is that of all threads, which other work hardly changes. Memory is the peak of a
process of its own, with the image in it."""
# Width and height, 4:3. The pyramid of the working size is that of 1024 pixels for all but the first.
SIZES = {
    "pixels": ((640, 480), (1152, 864), (2000, 1500), (4000, 3000), (5760, 4320), (8160, 6120)),
    "full-resolution": ((640, 480), (1152, 864), (1632, 1224)),
}
PROPOSALS = (10, 30, 100, 300, 1000)
CHECKPOINTS = (1, 10, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
# Small images of several sizes, so that thousands take minutes.
SMALL = ((64, 48), (96, 64), (80, 80), (48, 96))


def main() -> None:
    """Measure and print the result."""
    parser = parser_of(__doc__, rounds=5, threads=2)
    parser.add_argument("axis", choices=(*SIZES, "proposals", "images", "one"))
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--top-k", type=int, default=100)
    parser.add_argument("--whole", action="store_true", help="At full resolution.")
    parser.add_argument("--images", type=int, default=10_000)
    arguments = parser.parse_args()
    if arguments.axis == "one":
        print(json.dumps(_one(arguments)))
        return
    measure = {"proposals": _proposals, "images": _images}.get(arguments.axis, _pixels)
    before = begin(
        threads=arguments.threads, pairs=None if arguments.axis == "images" else arguments.rounds
    )
    caption, columns, rows = measure(arguments)
    measurement = Measurement(
        caption=caption,
        conditions=conditions(before, "onnxruntime-gpu", "numpy", "opencv-python-headless"),
        columns=columns,
        rows=tuple(rows),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


MEASURED = ("time, s", "processor time, s", "peak memory, MB")
Table = tuple[str, tuple[str, ...], list[tuple[Cell, ...]]]
"""Caption, columns and rows."""


def _pixels(arguments: argparse.Namespace) -> Table:
    whole = arguments.axis == "full-resolution"
    rows = []
    for width, height in SIZES[arguments.axis]:
        sizes = [f"--width={width}", f"--height={height}", *(["--whole"] if whole else [])]
        rows.append((f"{width}x{height}", *_in_process(arguments, *sizes)))
    pyramid = "full resolution" if whole else "the working size"
    caption = f"Pixels, with the pyramid of {pyramid}:"
    columns = ("image", "megapixels", *MEASURED)
    pixels = [width * height / 1e6 for width, height in SIZES[arguments.axis]]
    return (
        caption,
        columns,
        [(row[0], Figure(value=one), *row[1:]) for row, one in zip(rows, pixels, strict=True)],
    )


def _proposals(arguments: argparse.Namespace) -> Table:
    rows = [(str(k), *_in_process(arguments, f"--top-k={k}")) for k in PROPOSALS]
    return "Proposals of a 640x480 image:", ("K", *MEASURED), rows


def _images(arguments: argparse.Namespace) -> Table:
    """Stream images, and look at the memory of the process after some of them."""
    images = cycle([photograph(*size) for size in SMALL])
    options = foveate.PipelineOptions(threads=arguments.threads)
    rows: list[tuple[Cell, ...]] = []
    with foveate.load("mini", options=options) as pipeline:
        start = time.process_time()
        stream = pipeline.stream(islice(images, arguments.images))
        for number, _ in enumerate(stream, start=1):
            if number in CHECKPOINTS:
                elapsed = (time.process_time() - start) / number
                memory = Figure(value=_memory("VmRSS"))
                rows.append((f"{number:,}", Figure(value=1e3 * elapsed), memory))
    sizes = ", ".join(f"{width}x{height}" for width, height in SMALL)
    caption = f"Images in one stream, sizes {sizes} in turns:"
    return caption, ("images so far", "processor time per image, ms", "resident memory, MB"), rows


def _in_process(arguments: argparse.Namespace, *words: str) -> Iterator[Cell]:
    """Return times and peak memory of a process that does nothing else."""
    command = [sys.executable, __file__, "one", *words]
    command += [f"--rounds={arguments.rounds}", f"--threads={arguments.threads}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, processor, peak = json.loads(done.stdout)
    yield Figure.of(seconds)
    yield Figure.of(processor)
    yield Figure(value=peak)


def _one(arguments: argparse.Namespace) -> tuple[list[float], list[float], float]:
    """Return the seconds and processor seconds per round, and the peak memory in megabytes."""
    image = photograph(arguments.width, arguments.height)
    options = foveate.PipelineOptions(
        threads=arguments.threads,
        top_k=arguments.top_k,
        pyramid="full-resolution" if arguments.whole else "working-size",
    )
    seconds, processor = [], []
    with foveate.load("mini", options=options) as pipeline:
        for _ in range(arguments.rounds + 1):
            start, used = time.perf_counter(), time.process_time()
            pipeline(image)
            seconds.append(time.perf_counter() - start)
            processor.append(time.process_time() - used)
    return seconds[1:], processor[1:], _memory("VmHWM")


def _memory(name: str) -> float:
    """Return the resident memory of this process, or its peak, in megabytes."""
    return status_of()[name] * 1024 / 1e6


if __name__ == "__main__":
    main()
