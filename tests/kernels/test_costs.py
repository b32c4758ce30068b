# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import runpy
import subprocess
import sys
from operator import itemgetter
from typing import Any

import numpy as np
import pytest
from tests.samples.paths import ROOT

from foveate.bench.gpus import GPUS, Gpu

SCRIPT = ROOT / "benchmarks" / "kernel_predictions.py"
Cost, seconds_on, bound_on = itemgetter("Cost", "seconds", "bound")(runpy.run_path(str(SCRIPT)))
SLOW = Gpu(name="slow", bandwidth=100, fp64=2, fp32=20, fp16=40, int8=80, source="none")


def test_the_committed_predictions_are_what_the_script_writes() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True)
    committed = (ROOT / "docs" / "reference" / "kernel-predictions.md").read_text(encoding="utf-8")
    remedy = "run: python benchmarks/kernel_predictions.py docs/reference/kernel-predictions.md"
    assert done.stdout == committed, remedy


@pytest.mark.parametrize(
    ("cost", "seconds", "bound"),
    [
        (Cost(read=100, written=100, operations=10, wide_operations=1), 2.0, "bytes"),
        (Cost(read=100, written=0, operations=30, wide_operations=1), 3.0, "float32"),
        (Cost(read=100, written=0, operations=10, wide_operations=4), 4.0, "float64"),
    ],
)
def test_the_slowest_part_is_the_prediction(cost: Any, seconds: float, bound: str) -> None:
    assert seconds_on(SLOW, cost) == seconds
    assert bound_on(SLOW, cost) == bound


def test_bytes_are_those_of_the_arrays() -> None:
    logits, bits = np.empty((7, 16, 16), np.float32), np.empty((7, 50, 3), np.int32)
    paste = Cost.of_paste(7, 16, (50, 70), 100.0)
    assert paste.read == logits.nbytes + np.empty((7, 4), np.float32).nbytes
    assert paste.written == bits.nbytes + 7 * (4 + 16)
    canvas = np.empty((3, 12, 13), np.float32)
    level = Cost.of_letterbox((10, 11), (5, 6), (12, 13))
    assert level.written == canvas.nbytes
    assert level.read == 3 * 10 * 11
    assert level.operations == Cost.of_resize((10, 11), (5, 6)).operations
    up = Cost.of_upsample((2, 3, 4, 5), 2)
    assert (up.read, up.written) == (2 * 120 * 4, 480 * 4)
    resize = Cost.of_resize((30, 40), (12, 16))
    assert (resize.read, resize.written, resize.operations) == (3600, 576, 7200)
    boxes = np.empty((9, 4), np.float32)
    assert Cost.of_gathering(9).bytes == 2 * boxes.nbytes + 9 * 4
    patches = np.empty((5, 4, 8, 8), np.float32)
    assert Cost.of_cropping(patches.shape).bytes == 2 * patches.nbytes + 5 * 12


def test_pooling_reads_bins_until_they_are_more_than_the_map() -> None:
    small = Cost.of_roi_max_pool((8, 40, 40), [(14, 7)])
    assert small.read == 8 * 14 * 7 * 4 + 20
    assert small.operations == 8 * 14 * 7
    assert small.written == 8 * 49 * 4
    many = Cost.of_roi_max_pool((8, 40, 40), [(14, 7)] * 100)
    assert many.read == 8 * 40 * 40 * 4 + 2000
    overlapping = Cost.of_roi_max_pool((1, 99, 99), [(8, 7)])
    assert overlapping.operations == 14 * 7  # of 8 rows, each bin takes 2


def test_suppression_takes_an_overlap_a_pair() -> None:
    assert Cost.of_nms(1).wide_operations == 0
    assert Cost.of_nms(9).wide_operations == 36 * Cost.of_nms(2).wide_operations


def test_postprocessing_decodes_and_compares_only_what_scores_enough() -> None:
    none, some = Cost.of_postprocess(10, 3, 0.0, 7), Cost.of_postprocess(10, 3, 0.2, 7)
    assert none.read == 10 * 3 * 4 + 10 * (16 + 4 + 4) + 4
    assert some.read == none.read + 6 * 16
    assert none.written == some.written == 7 * (16 + 4 + 8 + 4) + 4
    # Two of each class, which are one pair, and six boxes to decode.
    more = 3 * Cost.of_nms(2).wide_operations + 6 * 70
    assert some.wide_operations == pytest.approx(none.wide_operations + more)


def test_gpus_are_told_apart_by_their_makers_figures() -> None:
    assert [gpu.name for gpu in GPUS] == ["H100", "L4", "RTX 4090", "Jetson Orin"]
