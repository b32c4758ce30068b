# SPDX-License-Identifier: Apache-2.0
"""Time that the exact optimization passes save in ONNX Runtime.

    python benchmarks/exact_passes.py --json benchmarks/results/exact_passes.json

Each stage runs before and after a pass, alternating, in one process and on one thread. Times are
processor times, which other processes hardly change. Weights are random, since only shapes matter.
MultiPathNet on VGG-16 has a share (``--width``) of its widths, including fc6.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import partial

import torch

from figures import Figure, Measurement, Result, begin, conditions, report
from foveate.export.execution.stages import cascade_stages
from foveate.export.passes import run_passes
from foveate.models.checkpoint import CascadeInfo, build_cascade
from measuring import Seconds, in_turns, parser_of, ratio
from stages import random_inputs, session_of

TITLE = "Exact passes"
QUESTION = """\
How much time the exact passes save in ONNX Runtime: processor time before and after a pass, in one process. Weights are
random, since only shapes matter."""
WINDOWS, LONG_SIDE = 50, 512


def main() -> None:
    """Measure the cases and print the result."""
    parser = parser_of(__doc__, rounds=9)
    parser.add_argument(
        "--width", type=int, default=32, help="Width of VGG-16's first stage; the original has 64."
    )
    parser.add_argument("--boxes", type=int, nargs="+", default=[30, 100])
    options = parser.parse_args()
    before = begin(threads=1, pairs=options.rounds)
    rows = [
        (
            f"`{stage}` of `{name}`, {count} {'boxes' if stage == 'classify' else 'windows'}",
            f"`{found}`",
            Figure.of([1e3 * one for one in seconds["before"]]),
            ratio(seconds["after"], seconds["before"]),
        )
        for name, info, stage, found in cases(options.width)
        for count, seconds in measure(info, stage, found, options)
    ]
    measurement = Measurement(
        caption=f"MultiPathNet on VGG-16 has a width of {options.width} in place of 64:",
        conditions=conditions(before, "onnxruntime-gpu", "torch"),
        columns=("stage", "pass", "before, ms", "after, relative"),
        rows=tuple(rows),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), options.json)


def cases(width: int) -> Iterator[tuple[str, CascadeInfo, str, str]]:
    """Yield name, networks, stage and pass of each case."""
    mini = CascadeInfo(
        proposals="sharpmask-mini", classifier="multipathnet-mini", class_names=("thing",)
    )
    yield "sharpmask-mini", mini, "refine", "fold-encoder"
    for form in ("released", "paper"):
        # The trunk is narrow, since refine does not run it.
        sizes = {"form": form, "width": 8}
        info = CascadeInfo(proposals="sharpmask-resnet50", proposals_sizes=sizes)
        yield f"sharpmask-resnet50, {form}", info, "refine", "fold-encoder"
    yield "multipathnet-mini", mini, "classify", "batch-towers"
    vgg = CascadeInfo(
        proposals="deepmask-mini",
        classifier="multipathnet-vgg16",
        classifier_sizes={"width": width, "mixed": 8 * width, "hidden": 64 * width},
        class_names=tuple(f"class {number}" for number in range(80)),
    )
    yield "multipathnet-vgg16", vgg, "classify", "fold-conv1x1"
    yield "multipathnet-vgg16", vgg, "classify", "batch-towers"


def measure(
    info: CascadeInfo, name: str, found: str, options: argparse.Namespace
) -> Iterator[tuple[int, Seconds]]:
    """Time a stage before and after a pass, and yield the number of rows and the seconds."""
    torch.manual_seed(0)
    cascade = build_cascade(info)
    (stage,) = (one for one in cascade_stages(cascade, long_side=LONG_SIDE) if one.name == name)
    before = session_of(stage)
    run_passes(cascade, [found])
    after = session_of(stage)
    for count in options.boxes if name == "classify" else [WINDOWS]:
        inputs = random_inputs(stage, count, LONG_SIDE)
        runs = {
            "before": partial(before.run, None, inputs),
            "after": partial(after.run, None, inputs),
        }
        yield count, in_turns(runs, options.rounds, clock=time.process_time)


if __name__ == "__main__":
    main()
