# SPDX-License-Identifier: Apache-2.0
"""A pipeline run over a data set: its results, time and memory."""

import re
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from foveate.arrays import Float64Array, Int64Array
from foveate.datasets.layouts import size_remedy
from foveate.errors import DataError
from foveate.evaluation.annotations import GroundTruth, Image
from foveate.evaluation.measure import Task
from foveate.progress import Progress, no_progress


class Pipeline(Protocol):
    """A pipeline to evaluate: ``foveate.Pipeline``, or any object with its two calls."""

    def propose(self, image: Path, /) -> Any:
        """Return ``foveate.Proposals``, or any object with boxes, scores and masks."""

    def __call__(self, image: Path, /) -> Any:
        """Return ``foveate.Detections``, or any object that also has labels and class names."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The cost of a pipeline on a data set.

    Args:
        counts: (images,) int64 number of results.
        seconds: (images,) float64, from the name of a file to boxes and scores.
        mask_seconds: (images,) float64, from there to full-size run-length masks.
        peak_memory: Largest resident size of the process in bytes; 0 if it is not known.
    """

    counts: Int64Array
    seconds: Float64Array
    mask_seconds: Float64Array
    peak_memory: int


def predict(
    pipeline: Pipeline,
    truth: GroundTruth,
    *,
    task: Task,
    take: Callable[[Image, list[dict[str, Any]]], None],
    progress: Progress = no_progress,
) -> Run:
    """Run ``pipeline`` on every image of ``truth``, one after the other, without keeping results.

    Args:
        pipeline: Pipeline; its class names are matched with those of the data set. A detection of a
            class that the data set does not have is left out, since it is neither right nor wrong.
        truth: Ground truth with the images.
        task: Part of the pipeline that runs.
        take: Called with each image and its COCO results, for ``Accumulator.add``.
        progress: Called with the number of finished images.

    Raises:
        DataError: The pipeline and the data set share no class, or an image is of another size than
            annotated.
    """
    reset_peak_memory()
    counts, seconds, mask_seconds = [], [], []
    for done, image in enumerate(truth.images, 1):
        start = time.perf_counter()
        found = pipeline.propose(image.path) if task == "proposals" else pipeline(image.path)
        middle = time.perf_counter()
        masks = found.masks.rle()  # computed on demand, hence timed separately
        seconds.append(middle - start)
        mask_seconds.append(time.perf_counter() - middle)
        counts.append(len(masks))
        _check_size(image, masks)
        take(image, _entries(image, found, masks, truth if task == "detections" else None))
        progress("Evaluating", done, len(truth.images))
    return Run(
        counts=np.array(counts, np.int64),
        seconds=np.array(seconds),
        mask_seconds=np.array(mask_seconds),
        peak_memory=peak_memory(),
    )


def _check_size(image: Image, masks: list[dict[str, Any]]) -> None:
    """Refuse masks of another size than the annotated ones, which would overlap with nothing."""
    if masks and masks[0]["size"] != [image.height, image.width]:
        height, width = masks[0]["size"]
        raise DataError(
            f"image {image.identifier} is annotated as {image.width}x{image.height} pixels, "
            f"its file has {width}x{height}",
            file=image.path,
            remedy=size_remedy((height, width), (image.height, image.width)),
        )


def _entries(
    image: Image, found: Any, masks: list[dict[str, Any]], truth: GroundTruth | None
) -> list[dict[str, Any]]:
    """Return the COCO results of one image, with categories if the data set is given."""
    boxes = np.array(found.boxes, np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    entries = [
        {"image_id": image.identifier, "score": float(s), "segmentation": m, "bbox": b.tolist()}
        for s, m, b in zip(found.scores, masks, boxes, strict=True)
    ]
    if truth is None:
        return entries
    categories = _categories(found.class_names, truth)
    return [
        {**entry, "category_id": categories[int(label)]}
        for entry, label in zip(entries, found.labels, strict=True)
        if int(label) in categories
    ]


def _categories(class_names: Sequence[str], truth: GroundTruth) -> dict[int, int]:
    """Return the data set's category id of each label that it has."""
    own = truth.category_ids
    known = {label: own[name] for label, name in enumerate(class_names) if name in own}
    if not known:
        raise DataError(
            f"no class in common: the bundle has {', '.join(class_names)}, "
            f"the data set has {', '.join(own)}",
            file=truth.name,
            remedy="evaluate with --proposals, which ignores classes",
        )
    return known


def reset_peak_memory() -> None:
    """Reset the peak, where the kernel allows it; elsewhere earlier peaks count."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_memory() -> int:
    """Return the largest resident size in bytes since the last reset; 0 if it is not known."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return _peak_of_the_process()
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else _peak_of_the_process()


def _peak_of_the_process() -> int:
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux and the BSDs count in KiB, macOS in bytes.
    return largest if sys.platform == "darwin" else largest * 1024
