# SPDX-License-Identifier: Apache-2.0
"""Time of the pipeline, and of the same networks with naive code between them.

    python benchmarks/against_glue.py --json benchmarks/results/against_glue.json

All run in one process, in turns, with the same threads, and must find the same objects.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from naive_glue import NaiveGlue

import foveate
from figures import Figure, Measurement, Result, begin, conditions, report
from foveate.arrays import UInt8Array
from foveate.bundle import Bundle
from measuring import in_turns, parser_of, photograph, ratio

TITLE = "Against naive glue"
QUESTION = """\
How much faster the pipeline is than the exported networks with the code that one writes between them at first: plain
sessions of ONNX Runtime, preprocessing in NumPy and OpenCV, a loop over the windows to select, crop and paste them, one
array of the image size per mask, and nothing kept between images. Windows are refined and boxes classified in one batch,
or one at a time. The classifier continues the trunk of the proposals in all. All find the same objects."""
OURS = "Foveate"
GLUE = {"naive glue, in a batch": None, "naive glue, one at a time": 1}


def main() -> None:
    """Measure and print the result."""
    parser = parser_of(__doc__, rounds=15, threads=2)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), help="Width and height.")
    arguments = parser.parse_args()
    image = photograph(*arguments.size)
    bundle = Bundle.open("mini")
    options = foveate.PipelineOptions(threads=arguments.threads)
    pipeline = foveate.load("mini", options=options)
    runs: dict[str, Callable[[], object]] = {OURS: partial(_with_masks, pipeline, image)}
    for name, rows in GLUE.items():
        glue = NaiveGlue(bundle, arguments.threads, rows)
        _check(pipeline, glue, image)
        runs[name] = partial(glue, image)
    before = begin(threads=arguments.threads, pairs=arguments.rounds)
    seconds = in_turns(runs, arguments.rounds)
    measurement = Measurement(
        caption=f"`mini` on one photograph of {image.shape[1]}x{image.shape[0]}:",
        conditions=conditions(before, "onnxruntime-gpu", "numpy", "opencv-python-headless"),
        columns=("", "time, s", "relative to Foveate"),
        rows=tuple(
            (name, Figure.of(all_), ratio(all_, seconds[OURS])) for name, all_ in seconds.items()
        ),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


def _with_masks(pipeline: foveate.Pipeline, image: UInt8Array) -> list[UInt8Array]:
    """Run the pipeline, and make an array of the image size of each mask, as the glue does."""
    return [np.asarray(mask) for mask in pipeline(image).masks]


def _check(pipeline: foveate.Pipeline, glue: NaiveGlue, image: UInt8Array) -> None:
    """Check that both find the same objects, up to the pixels of their rims."""
    ours, theirs = pipeline(image), glue(image)
    assert ours.labels.tolist() == [label for (_, _, label, _), _ in theirs]
    for own, (_, other) in zip(ours.masks, theirs, strict=True):
        both, either = np.logical_and(own, other).sum(), np.logical_or(own, other).sum()
        assert both / either > 0.98, f"masks agree by {both / either:.3f}"


if __name__ == "__main__":
    main()
