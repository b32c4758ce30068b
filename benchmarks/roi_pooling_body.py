# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of the function body of RoiMaxPool2d and of ONNX Runtime's MaxRoiPool.

    python benchmarks/roi_pooling_body.py --json benchmarks/results/roi_pooling_body.json

The maps are those of VGG-16: the last one of a 600x800 image and three of an 800x1000 image. The regions
are 1,000 boxes, and those of a foveal classifier: the same boxes 1.5, 2 and 4 times as large. Both run in
one process, alternating, with the same threads. Memory is the peak of a separate process that loads the
model and runs it once as Foveate's sessions do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from foveate.export.execution.stage_model import DOMAIN
from foveate.export.to_onnx.operators import attach_bodies

REGIONS, SIDE = 1000, 7
MAPS = {
    "512x38x50": (512, 38, 50, 16),
    "conv5, 512x50x63": (512, 50, 63, 16),
    "conv4, 512x100x125": (512, 100, 125, 8),
    "conv3, 256x200x250": (256, 200, 250, 4),
}
SCALES = (1.0, 1.5, 2.0, 4.0)
OURS, THEIRS = "RoiMaxPool2d", "MaxRoiPool"


def main() -> None:
    """Measure both operators and print the result."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="File of the result.")
    arguments = parser.parse_args()
    rows = [
        _measure(name, scale, arguments.rounds, arguments.threads)
        for name in MAPS
        for scale in SCALES
    ]
    if arguments.json:
        result = {"threads": arguments.threads, "rounds": arguments.rounds, "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _measure(name: str, scale: float, rounds: int, threads: int) -> dict[str, Any]:
    inputs = _inputs(name, scale)
    sessions = {operator: _session(operator, name, threads) for operator in (OURS, THEIRS)}
    pooled = {operator: one.run(None, inputs)[0] for operator, one in sessions.items()}
    assert np.array_equal(pooled[OURS], pooled[THEIRS]), f"{name}, {scale}: results differ"
    seconds: dict[str, list[float]] = {operator: [] for operator in sessions}
    for _ in range(rounds):
        for operator, session in sessions.items():
            start = time.perf_counter()
            session.run(None, inputs)
            seconds[operator].append(time.perf_counter() - start)
    ratios = np.divide(seconds[OURS], seconds[THEIRS])
    low, middle, high = (float(value) for value in np.quantile(ratios, (0.25, 0.5, 0.75)))
    row: dict[str, Any] = {
        "map": name,
        "region": scale,
        "seconds": {operator: float(np.median(all_)) for operator, all_ in seconds.items()},
        "ratio": {"median": middle, "low": low, "high": high},
        "peak_mb": {one: _peak_mb(one, name, scale, threads) for one in sessions},
    }
    own, other = row["peak_mb"].values()
    print(
        f"{name:20} x{scale:3} {row['seconds'][OURS]:7.3f} s {row['seconds'][THEIRS]:7.3f} s  "
        f"{middle:.2f} ({low:.2f} to {high:.2f})  {own:6.0f} MB {other:6.0f} MB",
        flush=True,
    )
    return row


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
        np.savez(inputs, **_inputs(name, scale))  # type: ignore[arg-type]  # its allow_pickle is a bool
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
