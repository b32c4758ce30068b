# SPDX-License-Identifier: Apache-2.0
"""Time that phases save in the refinement of masks in ONNX Runtime.

    python benchmarks/refinement.py --json benchmarks/results/refinement.json

``refine`` of ``mini`` is exported with the convolutions behind the upsampling, and with their phases
in front of it. Both run alternating, in one process and on one thread. Times are processor times,
which other processes hardly change.
"""

from __future__ import annotations

import time
from functools import partial
from unittest import mock

import numpy as np

from figures import Figure, Measurement, Result, begin, conditions, report
from foveate.bundle import Bundle
from foveate.export.execution.stages import cascade_stages
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.models import upsampled_convolution
from measuring import in_turns, parser_of, ratio
from stages import random_inputs, session_of

TITLE = "Refinement of masks"
QUESTION = """\
How much time it saves to compute the two finest convolutions of `refine` of `mini`
[before the upsampling](../docs/explanation/decisions/0081-phases-in-place-of-upsampling.md): processor time per window,
with random inputs."""


def main() -> None:
    """Measure batches of several sizes and print the result."""
    parser = parser_of(__doc__, rounds=15)
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 5, 10, 20])
    options = parser.parse_args()
    started = begin(threads=1, pairs=options.rounds)
    stages = cascade_stages(cascade_from_bundle(Bundle.open("mini")))
    (stage,) = (one for one in stages if one.name == "refine")
    with mock.patch.object(upsampled_convolution, "MOST_OUTPUTS", 0):
        before = session_of(stage)
    after = session_of(stage)
    rows = []
    for windows in options.windows:
        inputs = random_inputs(stage, windows)
        difference = np.abs(before.run(None, inputs)[0] - after.run(None, inputs)[0]).max()
        runs = {
            name: partial(one.run, None, inputs) for name, one in (("old", before), ("new", after))
        }
        seconds = in_turns(runs, options.rounds, clock=time.process_time)
        old = Figure.of([1e3 * one / windows for one in seconds["old"]])
        rows.append((str(windows), old, ratio(seconds["new"], seconds["old"]), f"{difference:.1e}"))
    measurement = Measurement(
        caption="",
        conditions=conditions(started, "onnxruntime-gpu", "torch"),
        columns=("windows", "before, ms per window", "after, relative", "largest difference"),
        rows=tuple(rows),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), options.json)


if __name__ == "__main__":
    main()
