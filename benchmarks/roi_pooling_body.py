# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of the function body of RoiMaxPool2d and of ONNX Runtime's MaxRoiPool.

    python benchmarks/roi_pooling_body.py --json benchmarks/results/roi_pooling_body.json

The maps are those of VGG-16: the last one of a 600x800 image and three of an 800x1000 image. The regions
are 1,000 boxes, and those of a foveal classifier: the same boxes 1.5, 2 and 4 times as large. Both run in
one process, alternating, with the same threads. Memory is the peak of a separate process that loads the
model and runs it once as Foveate's sessions do.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from figures import Cell, Figure, Measurement, Result, begin, conditions, report
from foveate.export.execution.stage_model import DOMAIN
from foveate.export.to_onnx.operators import attach_bodies
from measuring import in_turns, parser_of, ratio

REGIONS, SIDE = 1000, 7
MAPS = {
    "512x38x50": (512, 38, 50, 16),
    "conv5, 512x50x63": (512, 50, 63, 16),
    "conv4, 512x100x125": (512, 100, 125, 8),
    "conv3, 256x200x250": (256, 200, 250, 4),
}
SCALES = (1.0, 1.5, 2.0, 4.0)
TITLE = "ROI pooling"
QUESTION = """\
How the function body of `foveate::RoiMaxPool2d` compares with ONNX Runtime's `MaxRoiPool`, which gives the same bits:
1,000 regions, 7x7, in one process, and the peak memory of a process that imports nothing else."""
CAPTION = "Regions are boxes, and boxes of 1.5, 2 and 4 times the size:"
COLUMNS = (
    "map",
    "size of regions",
    "`MaxRoiPool`, s",
    "function body, relative",
    "peak memory, MB",
    "of `MaxRoiPool`, MB",
)
OURS, THEIRS = "RoiMaxPool2d", "MaxRoiPool"


def main() -> None:
    """Measure both operators and print the result."""
    parser = parser_of(__doc__, rounds=7, threads=2)
    arguments = parser.parse_args()
    before = begin(threads=arguments.threads, pairs=arguments.rounds)
    rows = [
        _measure(name, scale, arguments.rounds, arguments.threads)
        for name in MAPS
        for scale in SCALES
    ]
    measurement = Measurement(
        caption=CAPTION,
        conditions=conditions(before, "onnxruntime-gpu", "numpy"),
        columns=COLUMNS,
        rows=tuple(rows),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


def _measure(name: str, scale: float, rounds: int, threads: int) -> tuple[Cell, ...]:
    inputs = _inputs(name, scale)
    sessions = {operator: _session(operator, name, threads) for operator in (OURS, THEIRS)}
    pooled = {operator: one.run(None, inputs)[0] for operator, one in sessions.items()}
    assert np.array_equal(pooled[OURS], pooled[THEIRS]), f"{name}, {scale}: results differ"
    runs = {operator: partial(one.run, None, inputs) for operator, one in sessions.items()}
    seconds = in_turns(runs, rounds, warm_up=0)
    return (
        name,
        f"{scale:g}",
        Figure.of(seconds[THEIRS]),
        ratio(seconds[OURS], seconds[THEIRS]),
        *(Figure(value=_peak_mb(one, name, scale, threads)) for one in (OURS, THEIRS)),
    )


def _inputs(name: str, scale: float) -> dict[str, NDArray[np.float32]]:
    """Return scaled boxes inside the image, with sides of 32 to 400 pixels, uniform in the logarithm."""
    channels, height, width, stride = MAPS[name]
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1, channels, height, width), np.float32)
    sides = np.exp(rng.uniform(np.log(32), np.log(400), (REGIONS, 2)))
    image = np.array([width, height]) * stride
    low = rng.uniform(0, 1, (REGIONS, 2)) * (image - sides)
    center, half = low + sides / 2, sides / 2 * scale
    boxes = np.hstack([np.zeros((REGIONS, 1)), center - half, center + half])
    return {"features": features, "rois": boxes.astype(np.float32)}


def _model(operator: str, name: str) -> bytes:
    channels, _, _, stride = MAPS[name]
    own: dict[str, Any] = {"rounding": 0, "plugin_namespace": DOMAIN, "plugin_version": "1"}
    node = helper.make_node(
        operator,
        ["features", "rois"],
        ["pooled"],
        domain=DOMAIN if operator == OURS else "",
        pooled_shape=[SIDE, SIDE],
        spatial_scale=1 / stride,
        **(own if operator == OURS else {}),
    )
    shapes: dict[str, list[str | int | None]] = {
        "features": [1, channels, "h", "w"],
        "rois": ["r", 5],
    }
    graph = helper.make_graph(
        [node],
        "pooling",
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, s) for key, s in shapes.items()],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["r", channels, SIDE, SIDE])],
    )
    versions = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=10)
    attach_bodies(model, long_side=1024)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _session(operator: str, name: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(
        _model(operator, name), options, providers=["CPUExecutionProvider"]
    )


def _peak_mb(operator: str, name: str, scale: float, threads: int) -> float:
    """Run once in a process that imports only NumPy and ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        model, inputs = Path(folder, "model.onnx"), Path(folder, "inputs.npz")
        model.write_bytes(_model(operator, name))
        np.savez(inputs, **_inputs(name, scale))  # type: ignore[arg-type]  # no array is called allow_pickle
        command = [sys.executable, "-c", _RUN_ONCE, str(model), str(inputs), str(threads)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


# Not getrusage, whose peak includes that of the parent process.
_RUN_ONCE = """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[3])
options.enable_mem_pattern = False
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, dict(numpy.load(sys.argv[2])))
lines = open("/proc/self/status").read().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6)
"""


if __name__ == "__main__":
    main()
