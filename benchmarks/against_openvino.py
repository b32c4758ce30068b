# SPDX-License-Identifier: Apache-2.0
"""Time of the same ONNX files on ONNX Runtime and on OpenVINO.

    python -m pip install --no-deps --target build/rivals openvino openvino-telemetry
    PYTHONPATH=build/rivals python benchmarks/against_openvino.py --json benchmarks/results/against_openvino.json

Both run in one process, in turns, with the same number of threads. OpenVINO compiles each stage for
the shapes of its inputs, and computes in float32; ONNX Runtime takes any shape.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from figures import Cell, Figure, Measurement, Result, begin, conditions, report
from foveate.arrays import Array
from measuring import in_turns, parser_of, ratio
from stages import Subject, inputs_of, open_stage, subjects_of

TITLE = "Against OpenVINO"
QUESTION = """\
How fast OpenVINO (Apache-2.0) runs the same ONNX files: the networks of `mini` on the canvas of one level of 640x480,
with 100 windows and boxes, and `propose` of a full-size network. OpenVINO compiles each network for the shapes of these
inputs; ONNX Runtime takes any shape. `python -m pip install --no-deps --target build/rivals openvino
openvino-telemetry` installs it outside of the environment, and `PYTHONPATH=build/rivals` lets the script find it."""
OURS, THEIRS = "ONNX Runtime", "OpenVINO"


def main() -> None:
    """Measure and print the result."""
    parser = parser_of(__doc__, rounds=15, threads=2)
    parser.add_argument("--networks", nargs="+", default=["mini", "deepmask-resnet50"])
    arguments = parser.parse_args()
    try:
        openvino: Any = importlib.import_module("openvino")
    except ImportError:
        openvino = None
    before = begin(threads=arguments.threads, pairs=arguments.rounds)
    rows = [
        _row(openvino, subject, arguments.threads, arguments.rounds)
        for network in arguments.networks
        for subject in subjects_of(network)
    ]
    packages = ("onnxruntime-gpu", *(("openvino",) if openvino else ()))
    measurement = Measurement(
        caption="Networks one by one:",
        conditions=conditions(before, *packages),
        columns=(
            "network",
            f"{OURS}, ms",
            f"{THEIRS}, ms",
            f"{THEIRS} relative to {OURS}",
            "largest difference, relative to the largest output",
        ),
        rows=tuple(rows),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


def _row(openvino: Any, subject: Subject, threads: int, rounds: int) -> tuple[Cell, ...]:
    inputs = inputs_of(subject)
    session = open_stage(subject, threads)
    runs: dict[str, Callable[[], object]] = {OURS: partial(session.run, None, inputs)}
    difference = None
    if openvino is not None:
        request = _compiled(openvino, subject, inputs, threads).create_infer_request()
        runs[THEIRS] = partial(request.infer, inputs)
        difference = Figure(value=_difference(session.run(None, inputs), request.infer(inputs)))
    seconds = in_turns(runs, rounds)
    own = seconds[OURS]
    theirs = seconds.get(THEIRS)
    return (
        subject.name,
        Figure.of([1e3 * one for one in own]),
        None if theirs is None else Figure.of([1e3 * one for one in theirs]),
        None if theirs is None else ratio(theirs, own),
        difference,
    )


def _compiled(openvino: Any, subject: Subject, inputs: dict[str, Array], threads: int) -> Any:
    core = openvino.Core()
    model = core.read_model(model=subject.model)
    model.reshape({name: list(values.shape) for name, values in inputs.items()})
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    return core.compile_model(model, "CPU", settings)


def _difference(ours: list[Array], theirs: Any) -> float:
    """Return the largest difference of an output, relative to its largest value."""
    pairs = zip(ours, theirs.to_tuple(), strict=True)
    return max(float(np.abs(own - other).max() / np.abs(own).max()) for own, other in pairs)


if __name__ == "__main__":
    main()
