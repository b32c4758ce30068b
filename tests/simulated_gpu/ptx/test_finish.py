# SPDX-License-Identifier: Apache-2.0
"""The compiled kernels around the suppression of classified boxes, against the reference."""

from __future__ import annotations

import numpy as np
from tests.simulated_gpu.ptx.counters import Counters
from tests.simulated_gpu.ptx.device import Device
from tests.simulated_gpu.ptx.memory import Allocation, Array
from tests.simulated_gpu.ptx.test_nms import suppress

from foveate.kernels.finish import reference

MEAN, STD, CALIBRATION = (0.0, 0.01, -0.02, 0.03), (0.1, 0.11, 0.2, 0.21), (-0.3, 0.9, 0.2)
HEIGHT, WIDTH = 240, 320


def classified(rows: int, classes: int, seed: int) -> tuple[Array, Array, Array, Array, Array]:
    """Return probabilities, deltas, boxes, scores and kept of more proposals than rows."""
    generator = np.random.default_rng(seed)
    corners = generator.uniform(-20, 200, (rows + 3, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(0, 150, (rows + 3, 2))], axis=1)
    return (
        generator.uniform(0, 1, (rows, classes + 1)).astype(np.float32),
        generator.normal(0, 1, (rows, classes + 1, 4)).astype(np.float32),
        boxes.astype(np.float32),
        generator.normal(0, 3, rows + 3).astype(np.float32),
        generator.permutation(rows + 3)[:rows].astype(np.int32),
    )


def score(
    device: Device, given: tuple[Array, ...], count: int, score_threshold: float
) -> tuple[tuple[Allocation, Allocation, Allocation], Counters]:
    """Return boxes, scores and labels of all candidates, and the counts."""
    names = ("probabilities", "deltas", "boxes", "scores", "kept")
    rows, classes = given[0].shape[0], given[0].shape[1] - 1
    made = (
        device.empty((rows * classes, 4), "float32", "candidate_boxes"),
        device.empty((rows * classes,), "float32", "candidate_scores"),
        device.empty((rows * classes,), "int32", "candidate_labels"),
    )
    counters = device.launch(
        "finish_candidates",
        **{name: device.upload(array, name) for name, array in zip(names, given, strict=True)},
        kept_count=device.upload(np.array([count], np.int32), "kept_count"),
        **{array.name: array for array in made},
        rows=rows,
        classes=classes,
        capacity=len(given[2]),
        **{f"mean_{axis}": value for axis, value in zip("xywh", MEAN, strict=True)},
        **{f"std_{axis}": value for axis, value in zip("xywh", STD, strict=True)},
        **dict(zip(("bias", "slope", "weight"), CALIBRATION, strict=True)),
        score_threshold=score_threshold,
        height=HEIGHT,
        width=WIDTH,
    )
    assert all(array.written.all() for array in made)
    assert counters.threads["local load"] == 0
    written = sum(array.nbytes for array in made)
    assert counters.stores.sectors * 32 <= 1.25 * written + 96
    return made, counters


def gather(
    device: Device, winners: Array, made: tuple[Allocation, ...], kept: Array, classes: int
) -> tuple[tuple[Array, Array, Array, Array], Counters]:
    """Return boxes, scores, labels and rows of the winners, and the counts."""
    limit = len(winners)
    found = (
        device.empty((limit, 4), "float32", "found_boxes"),
        device.empty((limit,), "float32", "found_scores"),
        device.empty((limit,), "int64", "found_labels"),
        device.empty((limit,), "int32", "found_rows"),
    )
    counters = device.launch(
        "finish_gather",
        winners=device.upload(winners, "winners"),
        boxes=made[0],
        scores=made[1],
        kept=device.upload(kept, "kept"),
        **{array.name: array for array in found},
        limit=limit,
        classes=classes,
    )
    assert all(array.written.all() for array in found)
    assert counters.stores.sectors * 32 <= 1.25 * sum(array.nbytes for array in found) + 128
    boxes, scores, labels, rows = (array.array for array in found)
    return (boxes, scores, labels, rows), counters


def check(device: Device, given: tuple[Array, ...], count: int, score_threshold: float) -> int:
    """Compare everything with the reference; return the number of detections."""
    probabilities, deltas, boxes_of, objectness, kept = given
    limit, classes = 30, probabilities.shape[1] - 1
    made, _ = score(device, given, count, score_threshold)
    boxes, scores, labels = (array.array for array in made)
    winners, _ = suppress(device, boxes, scores, labels, 0.4, limit)
    padded = np.full(limit, -1, np.int32)
    padded[: len(winners)] = winners
    found, _ = gather(device, padded, made, kept, classes)
    want = reference.finish(
        probabilities,
        deltas,
        boxes_of,
        objectness,
        kept[:count].tolist(),
        limit,
        mean=MEAN,
        std=STD,
        calibration=CALIBRATION,
        score_threshold=score_threshold,
        iou=0.4,
        height=HEIGHT,
        width=WIDTH,
    )
    rest = limit - len(want)
    listed = [*want, *[((0.0, 0.0, 0.0, 0.0), 0.0, -1, -1)] * rest]
    for column, values in zip(found, zip(*listed, strict=True), strict=True):
        np.testing.assert_array_equal(column, np.array(values, column.dtype))
    return len(want)


def test_detections_equal_the_reference_bit_for_bit(device: Device) -> None:
    given = classified(11, 13, 0)
    assert 0 < check(device, given, 9, 0.8) < 30
    assert check(device, given, 11, 0.05) == 30


def test_extreme_probabilities_and_logits_have_their_scores(device: Device) -> None:
    given = classified(2, 6, 1)
    given[0][:] = [0, 0, 1, 1e-7, 0.5, 1 - 2**-24, np.nan]
    given[3][:] = [1e38, -1e38, 3.0, np.nan, 0.0]
    check(device, given, 2, 0.0)


def test_rows_without_a_proposal_have_no_candidates(device: Device) -> None:
    given = classified(4, 2, 2)
    given[4][:] = [-1, 7, 2**31 - 1, 0]
    boxes, scores, _ = (array.array for array in score(device, given, 4, 0.0)[0])
    assert not boxes[:6].any()
    assert not scores[:6].any()
    assert (scores[6:] > 0).all()


def test_a_negative_count_leaves_nothing(device: Device) -> None:
    given = classified(3, 2, 3)
    boxes, scores, labels = (array.array for array in score(device, given, -1, 0.0)[0])
    assert not boxes.any()
    assert not scores.any()
    assert labels.tolist() == [0, 1] * 3
