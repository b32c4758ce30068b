# SPDX-License-Identifier: Apache-2.0
"""How often detections are right, by their score, on images that did not calibrate the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import foveate
from foveate.arrays import BoolArray, Float64Array
from foveate.datasets import CocoDataset
from foveate.export.bundle_export import export_bundle
from foveate.models.checkpoint import Cascade
from foveate.training.mini.score_calibration import fit_logistic, observe

EDGES = (0.05, 0.15, 0.25, 0.4, 0.6, 1.0)
FOLDS = 5
_BAR = 20  # characters for a share of 1


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Detections whose scores lie in a range.

    Args:
        low: Smallest score.
        high: Score from which the next range begins.
        count: Number of detections.
        score: Mean score.
        right: Share that overlaps an object of its class by at least one half.
    """

    low: float
    high: float
    count: int
    score: float
    right: float


def reliability(cascade: Cascade, dataset: CocoDataset) -> list[Bin]:
    """Calibrate on four fifths of the images, count on the fifth, five times."""
    raw = replace(cascade.info, calibration=(0.0, 1.0, 0.0))
    options = foveate.PipelineOptions(score_threshold=0.01)
    folds = [dataset.of_images(np.arange(n, len(dataset), FOLDS)) for n in range(FOLDS)]
    with TemporaryDirectory() as scratch:
        bundle = export_bundle(replace(cascade, info=raw), Path(scratch) / "bundle")
        with foveate.load(bundle.root, options=options) as pipeline:
            seen = [observe(pipeline, fold, lambda *_: None) for fold in folds]
    scores, right = [], []
    for number, (inputs, found) in enumerate(seen):
        others = [one for index, one in enumerate(seen) if index != number]
        weights = fit_logistic(
            np.concatenate([one[0] for one in others]), np.concatenate([one[1] for one in others])
        )
        scores.append(1 / (1 + np.exp(-inputs @ weights)))
        right.append(found)
    return _binned(np.concatenate(scores), np.concatenate(right))


def _binned(scores: Float64Array, right: BoolArray) -> list[Bin]:
    bins = []
    for low, high in pairwise(EDGES):
        chosen = (scores >= low) & (scores < high)
        if chosen.any():
            mean, share = float(scores[chosen].mean()), float(right[chosen].mean())
            one = Bin(low=low, high=high, count=int(chosen.sum()), score=mean, right=share)
            bins.append(one)
    return bins


def diagram(bins: Sequence[Bin]) -> str:
    """Return the rows of a Markdown table, with a bar for the share that is right."""
    return "\n".join(
        f"| {one.low:.2f} to {one.high:.2f} | {one.count} | {one.score:.2f} | {one.right:.2f} | "
        f"`{'█' * round(_BAR * one.right):·<{_BAR}}` |"
        for one in bins
    )
