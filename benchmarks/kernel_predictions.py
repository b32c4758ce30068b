# SPDX-License-Identifier: Apache-2.0
"""Predict the time of each kernel on GPUs from its shapes; nothing is measured.

    python benchmarks/kernel_predictions.py docs/reference/kernel-predictions.md

Shapes are those of the shipped bundle on an image of 640 x 480 and, for pooling and upsampling,
those of MultiPathNet on VGG-16 and of the first step of SharpMask on ResNet-50.

Bytes are those that every implementation must move: inputs read once, outputs written once.
Operations are the additions, multiplications, comparisons and divisions of the arithmetic as it is
defined, each counted as one. The prediction is the larger of bytes over bandwidth and operations
over half of the peak rate. It excludes the launch, which dominates the short operations.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path

from foveate.bench.gpus import GPUS, REACH, Gpu
from foveate.bundle import Bundle
from foveate.runtime.sizes import Sizes

_BINS = 7  # per side of a pooled region
_BLEND = 9  # three mixes of a difference, a product and a sum
_DECODING = 70  # of a box, of which an exponential takes about 20, twice
_CALIBRATION = 90  # a logarithm and an exponential of about 35 each, three divisions, the rest
# Four limits, two comparisons, six sides, three areas, two sums of the union, and the threshold.
_OVERLAP = 18


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Bytes and operations of one call.

    Args:
        read: Bytes read.
        written: Bytes written.
        operations: float32 and integer operations.
        wide_operations: float64 operations.
    """

    read: float
    written: float
    operations: float = 0.0
    wide_operations: float = 0.0

    @property
    def bytes(self) -> float:
        """Bytes moved."""
        return self.read + self.written

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return (self.operations + self.wide_operations) / self.bytes

    @classmethod
    def of_letterbox(
        cls, image: tuple[int, int], size: tuple[int, int], canvas: tuple[int, int]
    ) -> Cost:
        """Count placing a resized image on a canvas.

        Args:
            image: Rows and columns of the image.
            size: Rows and columns of the image on the canvas.
            canvas: Rows and columns of the canvas.
        """
        resized = cls.of_resize(image, size)
        written = 4 * 3 * prod(canvas)
        return cls(read=resized.read, written=written, operations=resized.operations)

    @classmethod
    def of_roi_max_pool(
        cls, feature_map: tuple[int, int, int], regions: Iterable[tuple[int, int]]
    ) -> Cost:
        """Count pooling from a (channels, rows, columns) map; regions in its rows and columns."""
        channels, height, width = feature_map
        pixels, count = 0, 0
        for rows, columns in regions:
            pixels += sum(_bin_lengths(rows)) * sum(_bin_lengths(columns))
            count += 1
        read = 4 * channels * min(pixels, height * width) + 20 * count
        written = 4 * channels * count * _BINS**2
        return cls(read=read, written=written, operations=channels * pixels)

    @classmethod
    def of_paste(cls, windows: int, size: int, image: tuple[int, int], pasted: float) -> Cost:
        """Count the masks of windows as bits; ``pasted``: pixels of all windows in the image."""
        height, width = image
        bits = windows * height * -(-width // 32) * 4
        return cls(
            read=4 * windows * (size * size + 4),
            written=bits + 20 * windows,
            operations=(_BLEND + 1) * pasted,
        )

    @classmethod
    def of_upsample(cls, shape: tuple[int, ...], factor: int) -> Cost:
        """Count upsampling the rectified sum of two (N, C, H, W) maps."""
        elements = prod(shape)
        grown = elements * factor * factor
        operations = _BLEND * grown + 2 * elements
        return cls(read=2 * 4 * elements, written=4 * grown, operations=operations)

    @classmethod
    def of_cropping(cls, patches: tuple[int, ...]) -> Cost:
        """Count copying (K, C, P, P) patches out of maps."""
        size = 4 * prod(patches)
        return cls(read=size + 12 * patches[0], written=size)

    @classmethod
    def of_selection(cls, cells: int, windows: int) -> Cost:
        """Count ranking all cells, and overlaps of the first cells until enough survive."""
        return cls(
            read=4 * cells,
            written=32 * windows + 4,
            operations=2 * cells * cells,
            wide_operations=_OVERLAP * windows * windows,
        )

    @classmethod
    def of_nms(cls, boxes: int) -> Cost:
        """Count ranking boxes, and the overlap of every pair; pairs that do not touch take less."""
        pairs = boxes * (boxes - 1) / 2
        return cls(
            read=20 * boxes,
            written=4 * boxes + 4,
            operations=2 * boxes * boxes,
            wide_operations=_OVERLAP * pairs,
        )

    @classmethod
    def of_postprocess(cls, rows: int, classes: int, kept: float, limit: int) -> Cost:
        """Count scoring all classes of all rows, and suppressing those that score enough.

        Args:
            rows: Proposals that were classified.
            classes: Without the background.
            kept: Share of the candidates that score enough, evenly among the classes.
            limit: Detections.
        """
        candidates = rows * classes
        pairs = classes * (kept * rows) * max(kept * rows - 1, 0) / 2
        return cls(
            read=4 * candidates + 16 * kept * candidates + 24 * rows + 4,
            written=32 * limit + 4,
            operations=2 * candidates * rows,
            wide_operations=(_CALIBRATION + kept * _DECODING) * candidates + _OVERLAP * pairs,
        )

    @classmethod
    def of_gathering(cls, boxes: int) -> Cost:
        """Count gathering boxes, scaling them and moving them."""
        return cls(read=20 * boxes, written=16 * boxes, operations=8 * boxes)

    @classmethod
    def of_resize(cls, old: tuple[int, int], new: tuple[int, int]) -> Cost:
        """Count resizing an image of bytes; rows and columns."""
        pixels, resized = prod(old), prod(new)
        operations = 3 * (_BLEND * resized if resized >= pixels else 2 * pixels)
        return cls(read=3 * pixels, written=3 * resized, operations=operations)


def seconds(gpu: Gpu, cost: Cost) -> float:
    """Predict the time of an operation."""
    return max(_parts(gpu, cost).values())


def bound(gpu: Gpu, cost: Cost) -> str:
    """Return what the prediction is bound by: bytes, float32 or float64."""
    parts = _parts(gpu, cost)
    return max(parts, key=lambda name: parts[name])


def _parts(gpu: Gpu, cost: Cost) -> dict[str, float]:
    return {
        "bytes": cost.bytes / gpu.bandwidth,
        "float32": cost.operations / (REACH * gpu.fp32),
        "float64": cost.wide_operations / (REACH * gpu.fp64),
    }


def _bin_lengths(length: int) -> list[int]:
    """Return the pixels of each bin of Caffe's rounding along an axis, before clipping."""
    return [ceil((k + 1) * length / _BINS) - k * length // _BINS for k in range(_BINS)]


HEIGHT, WIDTH = 480, 640
BOX = 160.0  # side of each box that is pooled, in pixels of the image
MAP, STRIDE = (512, 38, 50), 16  # conv5 of VGG-16

HEAD = """\
# Predicted times of the kernels

**Predictions, not measurements**: no GPU was available. `python benchmarks/kernel_predictions.py
docs/reference/kernel-predictions.md` counts bytes and operations from the shapes and writes this page, and a test
compares the two. The time is the larger of bytes over bandwidth and operations over half of the peak rate. It excludes
launches, some microseconds each, and dependent passes ([kernels](../explanation/kernels.md) has both), which will
dominate selection, suppression and the small operations on boxes. Bytes are inputs read once and outputs written once.
Operations are those of the arithmetic as it is defined, in float64 where it is; integer comparisons count as float32.

Bandwidth in TB/s and float32 rate without tensor cores in TFLOP/s, from the data sheets; the float64 rate is one half of
that on H100 and 1/64 on the others: {gpus}.
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
    gpus = "; ".join(f"{g.name} {g.bandwidth / 1e12:.2f} and {g.fp32 / 1e12:.1f}" for g in GPUS)
    names = " | ".join(f"{gpu.name} µs" for gpu in GPUS)
    lines = [
        f"| operation | MB | MFLOP | FLOP/byte | {names} | bound |",
        "|---|---" + "|---" * (len(GPUS) + 3) + "|",
    ]
    for name, cost in workload().items():
        times = " | ".join(f"{1e6 * seconds(gpu, cost):.2f}" for gpu in GPUS)
        bounds = dict.fromkeys(bound(gpu, cost) for gpu in GPUS)
        flops = (cost.operations + cost.wide_operations) / 1e6
        lines.append(
            f"| {name} | {cost.bytes / 1e6:.3f} | {flops:.2f} | {cost.intensity:.2f} | {times} | "
            f"{', '.join(bounds)} |"
        )
    return HEAD.format(gpus=gpus) + "\n" + "\n".join(lines) + "\n"


def workload() -> dict[str, Cost]:
    """Return the operations of one image."""
    manifest = Bundle.open("mini").manifest
    sizes = Sizes.of(HEIGHT, WIDTH, manifest)
    windows, classes = manifest.select.top_k, len(manifest.class_names)
    assert manifest.classify is not None
    max_detections = manifest.classify.max_detections
    cells = sum(level.rows * level.columns for level in sizes.levels)
    levels = [
        ((level.height, level.width), (level.canvas_height, level.canvas_width))
        for level in sizes.levels
    ]
    patches = [
        (windows, *(axis for axis in spec.shape[1:] if isinstance(axis, int)))
        for spec in manifest.stages["refine"].inputs
    ]
    regions = [(round(BOX / STRIDE),) * 2] * 1000
    return {
        f"`letterbox`, {len(levels)} levels of {WIDTH} x {HEIGHT}": _sum(
            Cost.of_letterbox((HEIGHT, WIDTH), size, canvas) for size, canvas in levels
        ),
        "`resize`, 4000 x 3000 to 1024 x 768": Cost.of_resize((3000, 4000), (768, 1024)),
        f"`select_top_k`, {cells} cells, K = {windows}": Cost.of_selection(cells, windows),
        f"`crop_features`, all inputs of refine, K = {windows}": _sum(
            Cost.of_cropping(shape) for shape in patches
        ),
        f"`bilinear_upsample`, windows, K = {windows} of {BOX:.0f} px": Cost.of_paste(
            windows, manifest.mask.size, (HEIGHT, WIDTH), windows * BOX**2
        ),
        f"`bilinear_upsample`, map, relu(a + b), ({windows}, 512, 10, 10) to 20 x 20": (
            Cost.of_upsample((windows, 512, 10, 10), 2)
        ),
        f"`nms`, {windows} boxes": Cost.of_nms(windows),
        "`nms`, 1,000 boxes": Cost.of_nms(1000),
        "`gather_boxes`, 100 boxes": Cost.of_gathering(100),
        f"`postprocess`, {windows} boxes, {classes} classes, all above the score": (
            Cost.of_postprocess(windows, classes, 1.0, max_detections)
        ),
        f"`postprocess`, {windows} boxes, {classes} classes, one candidate in ten": (
            Cost.of_postprocess(windows, classes, 0.1, max_detections)
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
