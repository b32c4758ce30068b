# SPDX-License-Identifier: Apache-2.0
"""Time of the pipeline beside the bare network of an instance segmenter of today.

    python -m venv build/segmenter
    build/segmenter/bin/python -m pip install ultralytics onnx onnxslim
    cd build && segmenter/bin/python -c "from ultralytics import YOLO; YOLO('yolo11n-seg.yaml').export(format='onnx')"
    python benchmarks/against_segmenters.py --json benchmarks/results/against_segmenters.json

The weights of the segmenter are random, which its time does not depend on, so nothing is said of what
it would find. Its package and the file stay outside of the repository, because of their license.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import foveate
from figures import Figure, Measurement, Result, begin, conditions, report
from foveate.bundle import Bundle
from foveate.runtime.engines.onnxruntime_session import open_session, session_options
from measuring import in_turns, parser_of, photograph, ratio

TITLE = "Against an instance segmenter"
QUESTION = """\
How long `mini` takes from an array to detections, beside the bare network of what a user would pick today: YOLO11n-seg
of the package `ultralytics` (AGPL-3.0, so neither the package nor the network is in this repository) with random weights
at 640x640, without its preprocessing, suppression and masks, on the same ONNX Runtime. Only the times are compared: the
networks were trained for different classes, on different images."""
OURS, THEIRS = "`mini`, array to detections", "YOLO11n-seg, bare network"


def main() -> None:
    """Measure and print the result."""
    parser = parser_of(__doc__, rounds=15, threads=2)
    parser.add_argument("--onnx", type=Path, default=Path("build/yolo11n-seg.onnx"))
    arguments = parser.parse_args()
    options = foveate.PipelineOptions(threads=arguments.threads)
    image = photograph()
    runs: dict[str, Callable[[], object]] = {
        OURS: partial(foveate.load("mini", options=options), image)
    }
    for preset in Bundle.open("mini").manifest.presets:
        pipeline = foveate.load("mini", options=options, preset=preset)
        runs[f"the same with `--preset {preset}`"] = partial(pipeline, image)
    if arguments.onnx.is_file():
        session = open_session(arguments.onnx, session_options(arguments.threads))
        (given,) = session.get_inputs()
        pixels = np.random.default_rng(0).random(given.shape, dtype=np.float32)
        runs[THEIRS] = partial(session.run, None, {given.name: pixels})
    before = begin(threads=arguments.threads, pairs=arguments.rounds)
    seconds = in_turns(runs, arguments.rounds, warm_up=2)
    measurement = Measurement(
        caption="One 640x480 photograph:",
        conditions=conditions(before, "onnxruntime-gpu"),
        columns=("", "time, s", "relative to YOLO11n-seg"),
        rows=tuple(
            (
                name,
                Figure.of(seconds[name]) if name in seconds else None,
                ratio(seconds[name], seconds[THEIRS]) if THEIRS in seconds else None,
            )
            for name in dict.fromkeys((*runs, THEIRS))
        ),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


if __name__ == "__main__":
    main()
