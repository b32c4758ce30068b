# SPDX-License-Identifier: Apache-2.0
"""Time that the exact optimization passes save in ONNX Runtime, next to the work that they save.

    python benchmarks/exact_passes.py --rounds 9 --json benchmarks/results/exact_passes.json

Each stage runs before and after a pass, alternating, in one process and on one thread. Times are
processor times, which other processes hardly change. Weights are random, since only shapes matter.
MultiPathNet on VGG-16 has a share (``--width``) of its widths, including fc6.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from foveate.export.execution.stages import Stage, cascade_stages
from foveate.export.passes import SavingRecord, run_passes
from foveate.export.to_onnx.onnx_graph import export_stage
from foveate.models.checkpoint import CascadeInfo, build_cascade

WINDOWS, LONG_SIDE = 50, 512


def main() -> None:
    """Measure the cases and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--width", type=int, default=32, help="Width of VGG-16's first stage; the original has 64."
    )
    parser.add_argument("--boxes", type=int, nargs="+", default=[30, 100])
    parser.add_argument("--only", help="Run only cases whose names contain this.")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = []
    for name, info, stage, passes in cases(options.width):
        if options.only and options.only not in name:
            continue
        rows = options.boxes if stage == "classify" else [WINDOWS]
        for one in measure(info, stage, passes, rows, options.rounds):
            found.append({"case": name, "passes": passes, **one})
            ratios = sorted(after / before for before, after in one["seconds"])
            low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
            before = statistics.median(seconds for seconds, _ in one["seconds"])
            print(
                f"{name}, {', '.join(passes)}, {one['rows']} rows: {before * 1e3:.1f} ms, after "
                f"it {middle:.3f} ({low:.3f} to {high:.3f}) of that",
                flush=True,
            )
    if options.json:
        about = {
            "processor": platform.processor() or platform.machine(),
            "width": options.width,
            "onnxruntime": onnxruntime.__version__,
            "torch": torch.__version__,
        }
        text = json.dumps({"about": about, "cases": found}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")


def cases(width: int) -> Iterator[tuple[str, CascadeInfo, str, list[str]]]:
    """Yield name, networks, stage and passes of each case."""
    mini = CascadeInfo(
        proposals="sharpmask-mini", classifier="multipathnet-mini", class_names=("thing",)
    )
    yield "sharpmask-mini", mini, "refine", ["fold-encoder"]
    for form in ("released", "paper"):
        # The trunk is narrow, since refine does not run it.
        sizes = {"form": form, "width": 8}
        info = CascadeInfo(proposals="sharpmask-resnet50", proposals_sizes=sizes)
        yield f"sharpmask-resnet50, {form}", info, "refine", ["fold-encoder"]
    yield "multipathnet-mini", mini, "classify", ["batch-towers"]
    vgg = CascadeInfo(
        proposals="deepmask-mini",
        classifier="multipathnet-vgg16",
        classifier_sizes={"width": width, "mixed": 8 * width, "hidden": 64 * width},
        class_names=tuple(f"class {number}" for number in range(80)),
    )
    yield "multipathnet-vgg16", vgg, "classify", ["fold-conv1x1"]
    yield "multipathnet-vgg16", vgg, "classify", ["batch-towers"]


def measure(
    info: CascadeInfo, name: str, passes: list[str], rows: list[int], rounds: int
) -> Iterator[SavingRecord]:
    """Time a stage before and after passes, and yield the seconds and the saved work."""
    torch.manual_seed(0)
    cascade = build_cascade(info)
    (stage,) = (one for one in cascade_stages(cascade, long_side=LONG_SIDE) if one.name == name)
    before = session(stage)
    saved = run_passes(cascade, passes)
    after = session(stage)
    for count in rows:
        inputs = inputs_of(stage, count)
        pairs = [(run(before, inputs), run(after, inputs)) for _ in range(rounds + 1)][1:]
        yield {"rows": count, "saved": saved, "seconds": pairs}


def session(stage: Stage) -> onnxruntime.InferenceSession:
    """Return a session with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model: onnx.ModelProto = export_stage(stage)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def inputs_of(stage: Stage, rows: int) -> dict[str, np.ndarray]:
    """Return random inputs: windows, or boxes on the maps of an image of ``LONG_SIDE``."""
    generator = np.random.default_rng(0)
    inputs = {}
    for name, example in stage.inputs.items():
        shape = list(example.shape)
        if name == "boxes":
            low = generator.uniform(0, LONG_SIDE / 2, (rows, 2))
            high = low + generator.uniform(20, LONG_SIDE / 2, (rows, 2))
            inputs[name] = np.concatenate([low, high], axis=1).astype(np.float32)
            continue
        if name.startswith("map_"):
            shape[2:] = [LONG_SIDE // int(name.removeprefix("map_"))] * 2
        else:
            shape[0] = rows
        inputs[name] = generator.standard_normal(shape, dtype=np.float32)
    return inputs


def run(stage: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> float:
    """Run a session once, and return the processor time in seconds."""
    start = time.process_time()
    stage.run(None, inputs)
    return time.process_time() - start


if __name__ == "__main__":
    main()
