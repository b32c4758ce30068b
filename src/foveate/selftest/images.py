# SPDX-License-Identifier: Apache-2.0
"""The steps of the self-test that run whole images."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.resources import as_file, files

import numpy as np

from foveate.arrays import UInt8Array
from foveate.errors import BackendError
from foveate.images.reading import read_image
from foveate.results.detections import Detections
from foveate.runtime import Pipeline, PipelineOptions, load
from foveate.selftest.checks import Checks, NotTriedError, Outcome, WrongResultError
from foveate.selftest.machine import gpu

STREAMED, REPEATED = 20, 200
_ATTEMPTS = 3
# Largest differences from the CPU, where engines and letterboxing round in another way.
_PIXELS, _SCORE = 2.0, 0.05


def sample_image(shift: int = 0) -> UInt8Array:
    """Return a sample image of the package, shifted by a number of columns."""
    with as_file(files("foveate") / "assets" / "images" / "cat.jpg") as path:
        return np.ascontiguousarray(np.roll(read_image(path), shift, axis=1))


def image_checks(bundle: str) -> Checks:
    """Return checks of one image: plain, as a graph, and against the CPU."""
    return {
        "plain and as a graph": partial(_plain_and_graph, bundle),
        "against the CPU": partial(_against_cpu, bundle),
    }


def stream_checks(bundle: str) -> Checks:
    """Return checks of many images: in two slots, and in constant memory."""
    return {
        "two slots and one by one": partial(_streamed, bundle),
        "memory": partial(_repeated, bundle),
    }


def _plain_and_graph(bundle: str) -> Outcome:
    with _open(bundle) as pipeline:
        plain, again = pipeline(sample_image()), pipeline(sample_image())
        recorded = all(engine.capturable for engine in pipeline.engines.values())
    _require_equal(again, plain, "as a graph")
    return Outcome(difference=0.0, facts={"detections": len(plain), "recorded": recorded})


def _against_cpu(bundle: str) -> Outcome:
    threshold = PipelineOptions().score_threshold
    with _open(bundle, score_threshold=threshold) as pipeline, load(bundle, device="cpu") as cpu:
        found, expected = pipeline(sample_image()), cpu(sample_image())
    pixels, score = compare_detections(found, expected)
    return Outcome(difference=pixels, facts={"score_difference": score})


def _streamed(bundle: str) -> Outcome:
    images = [sample_image(shift) for shift in range(STREAMED)]
    with _open(bundle, max_in_flight=2) as pipeline:
        alone = [pipeline(image) for image in images]
        for streamed, expected in zip(pipeline.stream(images), alone, strict=True):
            _require_equal(streamed, expected, "in two slots")
    return Outcome(difference=0.0, facts={"images": len(images)})


def _repeated(bundle: str) -> Outcome:
    image, times = sample_image(), list[float]()

    def run() -> None:
        for _ in range(REPEATED):
            started = time.monotonic()
            pipeline(image)
            times.append(time.monotonic() - started)

    with _open(bundle) as pipeline:
        for _ in range(2):  # plain, then as a graph
            pipeline(image)
        lost = bytes_lost(run, lambda: gpu().memory()[0])
    if lost:
        raise WrongResultError(f"{REPEATED} images took {lost:,} bytes that were not released")
    return Outcome(facts={"images": REPEATED, "milliseconds": 1e3 * statistics.median(times)})


def bytes_lost(work: Callable[[], None], free_bytes: Callable[[], int]) -> int:
    """Return the fewest bytes that are lost each time some work is done, 0 as soon as none are.

    Other processes may take memory meanwhile, but not as steadily as a leak.
    """
    lost = []
    for _ in range(_ATTEMPTS):
        before = free_bytes()
        work()
        lost.append(max(0, before - free_bytes()))
        if not lost[-1]:
            break
    return min(lost)


def compare_detections(found: Detections, expected: Detections) -> tuple[float, float]:
    """Compare detections of a GPU with those of the CPU, in any order.

    Rounding may exchange two detections of nearly equal scores.

    Returns:
        The largest difference between boxes in pixels, and between scores.

    Raises:
        WrongResultError: They are other objects, or differ by more than rounding explains.
    """
    if sorted(found.labels) != sorted(expected.labels):
        raise WrongResultError(
            f"expected the classes {expected.labels.tolist()}, found {found.labels.tolist()}"
        )
    order = _nearest(found, expected)
    pixels = _largest(found.boxes[order] - expected.boxes)
    score = _largest(found.scores[order] - expected.scores)
    if not (pixels <= _PIXELS and score <= _SCORE):
        raise WrongResultError(
            f"boxes differ by {pixels:.3g} px (at most {_PIXELS:g}), and scores by {score:.3g} (at "
            f"most {_SCORE:g})"
        )
    return pixels, score


def _nearest(found: Detections, expected: Detections) -> list[int]:
    """Return for each expected detection the nearest one of its class that is not taken yet."""
    left, order = list(range(len(found))), []
    for label, box in zip(expected.labels, expected.boxes, strict=True):
        same = [index for index in left if found.labels[index] == label]
        order.append(min(same, key=lambda index: _largest(found.boxes[index] - box)))
        left.remove(order[-1])
    return order


def _open(bundle: str, *, max_in_flight: int = 1, score_threshold: float = 0.01) -> Pipeline:
    # A low threshold, since equal results are a stronger proof if there are many.
    options = PipelineOptions(max_in_flight=max_in_flight, score_threshold=score_threshold)
    try:
        return load(bundle, device="cuda", options=options)
    except BackendError as error:
        raise NotTriedError(str(error)) from error


def _require_equal(found: Detections, expected: Detections, how: str) -> None:
    same = all(
        np.array_equal(getattr(found, name), getattr(expected, name))
        for name in ("boxes", "scores", "labels")
    )
    if not (same and found.masks.rle() == expected.masks.rle()):
        raise WrongResultError(f"the same image gives other detections {how}")


def _largest(difference: np.ndarray) -> float:
    return float(np.abs(difference).max(initial=0))
