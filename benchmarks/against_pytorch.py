# SPDX-License-Identifier: Apache-2.0
"""Time of the networks on ONNX Runtime and on PyTorch with the same weights, eager and compiled.

    python benchmarks/against_pytorch.py pipeline --json benchmarks/results/against_pytorch.json
    python benchmarks/against_pytorch.py mini --json benchmarks/results/against_pytorch.json
    python benchmarks/against_pytorch.py deepmask-resnet50 --json benchmarks/results/against_pytorch.json

All run in one process, in turns, with the same number of threads. Each is warmed up first, which
includes compilation; the time for that is a column of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import torch

import foveate
from figures import Figure, Measurement, Result, begin, conditions, report
from foveate.bundle import Bundle
from foveate.export.execution.torch_engines import stage_call, torch_engines
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from measuring import in_turns, parser_of, photograph, ratio
from stages import inputs_of, open_stage, subjects_of

TITLE = "Against PyTorch"
QUESTION = """\
How fast PyTorch runs what ONNX Runtime runs: the whole pipeline with every network run by PyTorch, and the proposal
network alone on the canvas of one level of 640x480, 800x640 pixels. Weights, pyramid levels, number of windows, threads
and the code between the networks are the same. PyTorch is compiled by Inductor, one graph per size, dynamic in the
number of windows and boxes, and nothing is left uncompiled."""
WARM_UP = 3
BASE = "ONNX Runtime"
RIVALS = {
    "PyTorch eager": {"channels_last": False, "compiled": False},
    "PyTorch eager, channels-last": {"channels_last": True, "compiled": False},
    "PyTorch compiled": {"channels_last": False, "compiled": True},
    "PyTorch compiled, channels-last": {"channels_last": True, "compiled": True},
}
Runs = dict[str, Callable[[], object]]


def main() -> None:
    """Measure and print the result."""
    parser = parser_of(__doc__, rounds=9, threads=2)
    parser.add_argument("subject", help="pipeline, mini, or the name of a proposal network.")
    parser.add_argument("--eager-only", action="store_true", help="Omit torch.compile.")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rivals = [name for name in RIVALS if not (arguments.eager_only and "compiled" in name)]
    caption, runs = (_pipelines if arguments.subject == "pipeline" else _stages)(
        arguments.subject, arguments.threads, rivals
    )
    warm_up = {name: _warm_up(name, run) for name, run in runs.items()}
    before = begin(threads=arguments.threads, pairs=arguments.rounds)
    seconds = in_turns(runs, arguments.rounds, warm_up=0)
    measurement = Measurement(
        caption=caption,
        conditions=conditions(before, "torch", "onnxruntime-gpu"),
        columns=("", "time, s", "relative to ONNX Runtime", f"{WARM_UP} runs of warm-up, s"),
        rows=tuple(
            (
                name,
                Figure.of(seconds[name]) if name in runs else None,
                ratio(seconds[name], seconds[BASE]) if name in runs else None,
                Figure(value=warm_up[name]) if name in runs else None,
            )
            for name in (BASE, *RIVALS)
        ),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


def _pipelines(_: str, threads: int, rivals: list[str]) -> tuple[str, Runs]:
    bundle, image = Bundle.open("mini"), photograph()
    options = foveate.PipelineOptions(threads=threads)
    runs: Runs = {BASE: partial(foveate.load("mini", options=options), image)}
    for name in rivals:
        engines = torch_engines(cascade_from_bundle(bundle), bundle, **RIVALS[name])
        runs[name] = partial(foveate.Pipeline(bundle, engines, options=options), image)
    return "The pipeline of `mini` on one 640x480 photograph:", runs


def _stages(network: str, threads: int, rivals: list[str]) -> tuple[str, Runs]:
    subject = subjects_of(network)[0]
    inputs = inputs_of(subject)
    runs: Runs = {BASE: partial(open_stage(subject, threads).run, None, inputs)}
    tensors = [torch.from_numpy(inputs[name]) for name in subject.stage.inputs]
    for name in rivals:
        # A module has one memory format, so each rival takes its own.
        stage = subjects_of(network)[0].stage
        runs[name] = partial(stage_call(stage, **RIVALS[name]), tensors)
    return f"{subject.name}:", runs


def _warm_up(name: str, run: Callable[[], object]) -> float:
    """Run until it is warm, and return the seconds that this took."""
    start = time.perf_counter()
    for _ in range(WARM_UP):
        run()
    seconds = time.perf_counter() - start
    print(f"{name}: warm after {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds


if __name__ == "__main__":
    main()
