# SPDX-License-Identifier: Apache-2.0
"""Time of the pipeline on ONNX Runtime and on PyTorch with the same weights, eager and compiled.

    python benchmarks/against_pytorch.py --json benchmarks/results/against_pytorch.json

All pipelines run in one process, alternating (A B C, A B C, ...), on the same image, with the same number
of threads and the same code between the engines, so that only the engines differ. Ratios are computed per
round, so that a machine whose speed changes favors none. Before that, each pipeline runs the image until
it is warm, which includes compilation; the time for that is reported.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import foveate
from foveate.bundle import Bundle
from foveate.export.execution.torch_engines import torch_engines
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle

WARM_UP = 3
BASE = "ONNX Runtime"


def main() -> None:
    """Measure the pipelines and print the result."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--bundle", default="mini")
    parser.add_argument("--image", type=Path, help="Image, cropped to 640x480; the cat by default.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--eager-only", action="store_true", help="Omit torch.compile and its warm-up."
    )
    parser.add_argument("--json", type=Path, help="File of the result.")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    image = _image(arguments.image)
    pipelines = _pipelines(arguments.bundle, arguments.threads, not arguments.eager_only)
    warm_up = {name: _warm_up(name, own, image) for name, own in pipelines.items()}
    seconds = _measure(pipelines, image, arguments.rounds)
    result = _summary(seconds, warm_up, image, arguments.threads)
    print(_table(result))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _image(path: Path | None) -> NDArray[np.uint8]:
    path = path or Path(foveate.__file__).parent / "assets" / "images" / "cat.jpg"
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert image is not None, path
    scale = max(480 / image.shape[0], 640 / image.shape[1])
    resized = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(resized[:480, :640]).astype(np.uint8)


def _pipelines(name: str, threads: int, with_compiled: bool) -> dict[str, foveate.Pipeline]:
    bundle = Bundle.open(name)
    options = foveate.PipelineOptions(threads=threads)
    pipelines = {BASE: foveate.load(name, options=options)}
    for label, channels_last, compiled in (
        ("PyTorch eager", False, False),
        ("PyTorch eager, channels-last", True, False),
        ("PyTorch compiled", False, True),
        ("PyTorch compiled, channels-last", True, True),
    ):
        if compiled and not with_compiled:
            continue
        engines = torch_engines(
            cascade_from_bundle(bundle), bundle, channels_last=channels_last, compiled=compiled
        )
        pipelines[label] = foveate.Pipeline(bundle, engines, options=options)
    return pipelines


def _warm_up(name: str, pipeline: foveate.Pipeline, image: NDArray[np.uint8]) -> float:
    """Run a pipeline until it is warm, and return the seconds that this took."""
    start = time.perf_counter()
    for _ in range(WARM_UP):
        pipeline(image)
    seconds = time.perf_counter() - start
    print(f"{name}: warm after {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds


def _measure(
    pipelines: Mapping[str, foveate.Pipeline], image: NDArray[np.uint8], rounds: int
) -> dict[str, list[float]]:
    """Time each pipeline once per round, alternating."""
    seconds: dict[str, list[float]] = {name: [] for name in pipelines}
    for _ in range(rounds):
        for name, pipeline in pipelines.items():
            start = time.perf_counter()
            pipeline(image)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _summary(
    seconds: Mapping[str, list[float]],
    warm_up: Mapping[str, float],
    image: NDArray[np.uint8],
    threads: int,
) -> dict[str, Any]:
    base = seconds[BASE]
    return {
        "machine": f"{_processor()}, {threads} threads",
        "versions": {
            name: metadata.version(name)
            for name in ("torch", "onnxruntime-gpu", "numpy", "opencv-python-headless")
        },
        "image": [image.shape[1], image.shape[0]],
        "rounds": len(base),
        "warm_up_runs": WARM_UP,
        "warm_up_seconds": dict(warm_up),
        "seconds": {name: _spread(values) for name, values in seconds.items()},
        "ratio": {
            name: _spread([value / own for value, own in zip(values, base, strict=True)])
            for name, values in seconds.items()
        },
    }


def _spread(values: list[float]) -> dict[str, float]:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    assert middle == statistics.median(values)
    return {"median": float(middle), "low": float(low), "high": float(high)}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _table(result: Mapping[str, Any]) -> str:
    lines = [
        f"{result['machine']}, {result['rounds']} rounds, image {result['image']}",
        f"{'':34} {'seconds':>9} {'x ONNX Runtime':>22} {'warm-up, s':>11}",
    ]
    for name, seconds in result["seconds"].items():
        ratio = result["ratio"][name]
        spread = f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
        warm_up = result["warm_up_seconds"][name]
        lines.append(f"{name:34} {seconds['median']:9.3f} {spread:>22} {warm_up:11.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
