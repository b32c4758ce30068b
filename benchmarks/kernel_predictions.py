# SPDX-License-Identifier: Apache-2.0
"""Predict the time of each kernel on GPUs that were not at hand, from its shapes.

    python benchmarks/kernel_predictions.py docs/kernel_predictions.md

Shapes are those of the shipped bundle on a picture of 640 x 480 and, for pooling and upsampling,
those of MultiPathNet on VGG-16 and of the first step of SharpMask on ResNet-50.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from foveate.bundle import Bundle
from foveate.kernels.costs import GPUS, Cost
from foveate.runtime.plan import Plan

HEIGHT, WIDTH = 480, 640
BOX = 160.0  # side of each box that is pooled, in pixels of the picture
MAP, STRIDE = (512, 38, 50), 16  # conv5 of VGG-16

HEAD = """\
# Predicted times of the kernels

Written by `python benchmarks/kernel_predictions.py docs/kernel_predictions.md`, which counts from the shapes; a test compares. **Predictions, not measurements**: no GPU was at hand. The time is the larger of
the bytes over the bandwidth and the operations over half of the peak rate. Launches are left out, some microseconds each, and so are dependent passes ([kernels.md](kernels.md) counts both): selection,
suppression and the small operations on boxes will be bound by those. Bytes are inputs read once and outputs written once, operations those of the arithmetic as it is
defined, float64 where it is; comparisons of integers count as float32.

Bandwidth in TB/s and float32 outside of tensor cores in TFLOP/s, by the makers' data sheets; float64 is a half of that on H100 and 1/64 on the others: {gpus}.
"""


def main() -> None:
    """Write the table to the file that is named, or print it."""
    text = report()
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")
    else:
        print(text, end="")


def report() -> str:
    """Return the document."""
    gpus = "; ".join(f"{g.name} {g.bandwidth / 1e12:.2f} and {g.rate / 1e12:.1f}" for g in GPUS)
    names = " | ".join(f"{gpu.name} µs" for gpu in GPUS)
    lines = [
        f"| operation | MB | MFLOP | FLOP/byte | {names} | bound |",
        "|---|---" + "|---" * (len(GPUS) + 3) + "|",
    ]
    for name, cost in workload().items():
        times = " | ".join(f"{1e6 * gpu.seconds(cost):.2f}" for gpu in GPUS)
        bounds = dict.fromkeys(gpu.bound(cost) for gpu in GPUS)
        flops = (cost.operations + cost.wide_operations) / 1e6
        lines.append(
            f"| {name} | {cost.bytes / 1e6:.3f} | {flops:.2f} | {cost.intensity:.2f} | {times} | "
            f"{', '.join(bounds)} |"
        )
    return HEAD.format(gpus=gpus) + "\n" + "\n".join(lines) + "\n"


def workload() -> dict[str, Cost]:
    """Return the operations of one picture."""
    manifest = Bundle.open("mini").manifest
    plan = Plan.of(HEIGHT, WIDTH, manifest.pyramid, manifest.windows, manifest.features)
    windows, classes = manifest.select.top_k, len(manifest.class_names) + 1
    assert manifest.classify is not None
    top_n = manifest.classify.top_n
    cells = sum(level.rows * level.columns for level in plan.levels)
    levels = [
        ((level.height, level.width), (level.canvas_height, level.canvas_width))
        for level in plan.levels
    ]
    patches = [
        (windows, *(axis for axis in spec.shape[1:] if isinstance(axis, int)))
        for spec in manifest.stages["refine"].inputs
    ]
    regions = [(round(BOX / STRIDE),) * 2] * 1000
    return {
        f"`pyramid`, {len(levels)} levels of {WIDTH} x {HEIGHT}": Cost.of_pyramid(
            (HEIGHT, WIDTH), levels
        ),
        "`pyramid`, resize of 4000 x 3000 to 1024 x 768": Cost.of_resize((3000, 4000), (768, 1024)),
        f"`select_top_k`, {cells} cells, K = {windows}": Cost.of_selection(cells, windows),
        f"`gather_windows`, all inputs of refine, K = {windows}": _sum(
            Cost.of_gathering(shape) for shape in patches
        ),
        f"`bilinear_upsample`, windows, K = {windows} of {BOX:.0f} px": Cost.of_paste(
            windows, manifest.mask.size, (HEIGHT, WIDTH), windows * BOX**2
        ),
        f"`bilinear_upsample`, map, relu(a + b), ({windows}, 512, 10, 10) to 20 x 20": (
            Cost.of_upsample((windows, 512, 10, 10), 2, summed=True)
        ),
        f"`nms`, {windows} boxes": Cost.of_nms(windows),
        "`nms`, 1,000 boxes": Cost.of_nms(1000),
        "`take_boxes`, 100 boxes": Cost.of_taking(100),
        f"`decode_boxes`, {windows} boxes, {classes} classes": Cost.of_decoding(windows, classes),
        f"`finish`, {windows} boxes, {classes - 1} classes, all above the score": Cost.of_finish(
            windows, classes - 1, 1.0, top_n
        ),
        f"`finish`, {windows} boxes, {classes - 1} classes, one candidate in ten": Cost.of_finish(
            windows, classes - 1, 0.1, top_n
        ),
        f"`roi_max_pool`, 1,000 ROIs of {BOX:.0f} px, 512 x 38 x 50": Cost.of_roi_max_pool(
            MAP, regions
        ),
    }


def _sum(costs: Iterable[Cost]) -> Cost:
    listed = list(costs)
    return Cost(
        read=sum(cost.read for cost in listed),
        written=sum(cost.written for cost in listed),
        operations=sum(cost.operations for cost in listed),
        wide_operations=sum(cost.wide_operations for cost in listed),
    )


if __name__ == "__main__":
    main()
