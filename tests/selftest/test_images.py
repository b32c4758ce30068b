# SPDX-License-Identifier: Apache-2.0
"""The comparison of detections of a GPU with those of the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from foveate.results.detections import Detections
from foveate.results.window_masks import WindowMasks
from foveate.selftest.checks import WrongResultError
from foveate.selftest.images import bytes_lost, compare_detections

Found = tuple[float, int, tuple[int, int, int, int]]  # score, label and box
CAT, DOG, OTHER_DOG = (0.9, 0, (2, 4, 9, 8)), (0.7, 1, (1, 3, 7, 6)), (0.69, 1, (11, 3, 17, 6))


def detections(found: Sequence[Found]) -> Detections:
    boxes = np.array([box for *_, box in found], np.float32)
    return Detections(
        boxes=boxes,
        scores=np.array([score for score, *_ in found], np.float32),
        labels=np.array([label for _, label, _ in found], np.int64),
        class_names=("cat", "dog"),
        masks=WindowMasks(
            np.ones((len(found), 8, 8), np.float32),
            np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1),
            np.arange(len(found)),
            threshold=0.0,
            height=20,
            width=30,
        ),
        proposals=np.arange(len(found)),
    )


EXPECTED = detections([CAT, DOG, OTHER_DOG])


def test_two_detections_of_nearly_equal_scores_may_be_exchanged() -> None:
    found = detections([CAT, (0.705, 1, (11, 3, 18, 6)), DOG])
    pixels, score = compare_detections(found, EXPECTED)
    assert pixels == 1.0
    assert score == pytest.approx(0.015)


def test_a_box_that_moved_by_more_than_rounding_is_wrong() -> None:
    found = detections([CAT, DOG, (0.69, 1, (14, 3, 20, 6))])
    with pytest.raises(WrongResultError, match=r"boxes differ by 3 px \(at most 2\)"):
        compare_detections(found, EXPECTED)


def test_another_class_is_wrong() -> None:
    found = detections([CAT, DOG, (0.69, 0, (11, 3, 17, 6))])
    message = r"expected the classes \[0, 1, 1\], found \[0, 1, 0\]"
    with pytest.raises(WrongResultError, match=message):
        compare_detections(found, EXPECTED)


@pytest.mark.parametrize(
    ("of_others", "leak", "expected", "attempts"),
    [([0], 0, 0, 1), ([700, 0], 0, 0, 2), ([-900], 0, 0, 1), ([700, 0, 900], 30, 30, 3)],
)
def test_memory_that_other_processes_take_is_no_leak(
    of_others: list[int], leak: int, expected: int, attempts: int
) -> None:
    free, done = 10_000, 0

    def work() -> None:
        nonlocal free, done
        free -= of_others[done] + leak
        done += 1

    assert (bytes_lost(work, lambda: free), done) == (expected, attempts)
