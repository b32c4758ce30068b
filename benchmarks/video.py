# SPDX-License-Identifier: Apache-2.0
"""A video and a camera beside the pipeline on arrays.

    python benchmarks/video.py --rounds 9 --minutes 10 --json benchmarks/results/video.json

The video is made of pans over the shipped photograph, and encoded by OpenCV. The camera is a generator
that waits for the time of each frame, as `cv2.VideoCapture.read` does.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

import foveate
from figures import Figure, Measurement, Result, begin, conditions, report
from foveate.arrays import UInt8Array
from foveate.video import Frames
from measuring import in_turns, parser_of, photograph, ratio

TITLE = "Video and cameras"
QUESTION = """\
What share of the throughput of `pipeline.stream` on decoded frames is left where `pipeline.video` decodes them from a
file; the aim is 0.95. And how old a result is when it is delivered, where a camera has more frames than the pipeline can
take, so that only the latest one counts; the aim is less than twice the time of an image."""
SIZE = (640, 480)
RATE = 30.0
PACKAGES = ("onnxruntime-gpu", "numpy", "opencv-python-headless")


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, rounds=9, threads=2)
    parser.add_argument("--minutes", type=float, default=10.0, help="Of the camera.")
    arguments = parser.parse_args()
    options = foveate.PipelineOptions(threads=arguments.threads)
    with foveate.load("mini", options=options) as pipeline:
        throughput = _throughput(pipeline, arguments.rounds, arguments.threads)
        age = _age(pipeline, 60 * arguments.minutes, arguments.threads)
    result = Result(title=TITLE, question=QUESTION, measurements=(throughput, age))
    report(result, arguments.json)


def _throughput(pipeline: foveate.Pipeline, rounds: int, threads: int) -> Measurement:
    """Measure the frames of a file and the same frames decoded before."""
    before, frames = (
        begin(threads=threads, pairs=rounds),
        [frame for _, frame in zip(range(10), _pan(), strict=False)],
    )
    with tempfile.TemporaryDirectory() as directory:
        clip = _written(frames, Path(directory) / "clip.mp4")
        decoded = [frame.image for frame in Frames(clip)]
        runs = {
            "stream": lambda: list(pipeline.stream(decoded)),
            "video": lambda: list(pipeline.video(clip)),
        }
        seconds = in_turns(runs, rounds)
    per_frame = {name: [one / len(frames) for one in took] for name, took in seconds.items()}
    return Measurement(
        caption=f"A video of {len(frames)} frames of {SIZE[0]} x {SIZE[1]}, per frame:",
        conditions=conditions(before, *PACKAGES),
        columns=("", "time, s", "throughput relative to decoded frames"),
        rows=tuple(
            (label, Figure.of(per_frame[name]), ratio(seconds["stream"], seconds[name]))
            for name, label in (
                ("stream", "`pipeline.stream`, decoded frames"),
                ("video", "`pipeline.video`, a file"),
            )
        ),
    )


def _age(pipeline: foveate.Pipeline, seconds: float, threads: int) -> Measurement:
    """Measure the ages of results of a camera."""
    before = begin(threads=threads)
    image = next(_pan())
    alone = in_turns({"image": lambda: pipeline(image)}, 20)["image"]
    with pipeline.video(_camera(seconds), policy="latest") as video:
        for _ in video:
            pass
        ages, frames = np.array(video.ages), video.frames
        counts = f"{frames.read} frames, {video.done} processed, {frames.dropped} dropped"
    bound = 2 * float(np.median(alone))
    p50, p95, p99 = (Figure(value=float(f"{x:.6g}")) for x in np.quantile(ages, (0.5, 0.95, 0.99)))
    return Measurement(
        caption=f"A camera of {RATE:g} frames per second for {seconds / 60:g} minutes with the policy "
        f"`latest`: {counts}.",
        conditions=conditions(before, *PACKAGES),
        columns=("", "time, s"),
        rows=(
            ("an image alone", Figure.of(alone)),
            ("age of a result, median", p50),
            ("95th percentile", p95),
            ("99th percentile", p99),
            ("greatest", Figure(value=float(f"{ages.max():.6g}"))),
            ("results under twice an image", f"{np.mean(ages < bound):.2%}"),
        ),
    )


def _pan() -> Iterator[UInt8Array]:
    """Yield views of the photograph that move from side to side and back, (480, 640, 3) uint8 RGB."""
    width, height = SIZE
    wide = photograph(width + 160, height)
    step = 0
    while True:
        left = abs(step % 320 - 160)
        yield np.ascontiguousarray(wide[:, left : left + width])
        step += 2


def _camera(seconds: float) -> Iterator[UInt8Array]:
    """Yield a frame at each of its times."""
    start, count = time.monotonic(), 0
    frames = _pan()
    while (due := count / RATE) < seconds:
        time.sleep(max(0.0, start + due - time.monotonic()))
        yield next(frames)
        count += 1


def _written(frames: list[UInt8Array], file: Path) -> Path:
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), RATE, SIZE)
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return file


if __name__ == "__main__":
    main()
