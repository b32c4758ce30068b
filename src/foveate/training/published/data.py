# SPDX-License-Identifier: Apache-2.0
"""Where the pictures and the proposals of a training come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foveate
from foveate.errors import DataError
from foveate.training.dataset import CocoDataset
from foveate.training.sampling import ProposalTable


def open_training_set(directory: Path) -> CocoDataset:
    """Open the training pictures of a data set, in either layout.

    Args:
        directory: has `train/annotations.json` and `train/pictures/`, or as COCO is published
            `annotations/instances_train<year>.json` and `train<year>/`.

    Raises:
        DataError: it has neither, or several years.
    """
    if (directory / "train" / "annotations.json").is_file():
        return CocoDataset(directory / "train")
    found = sorted((directory / "annotations").glob("instances_train*.json"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DataError(
            "expected train/annotations.json, or one annotations/instances_train<year>.json, "
            f"found {names}",
            file=directory,
            remedy="lay the data set out in one of these ways",
        )
    pictures = directory / found[0].stem.removeprefix("instances_")
    return CocoDataset(pictures, annotations=found[0])


def open_proposals(
    source: Path, dataset: CocoDataset, cache: Path, report: Callable[[int, int], None]
) -> ProposalTable:
    """Read proposals, or let a bundle make them.

    Args:
        source: a file of COCO results; else a bundle, by its path or the name of a shipped one.
        dataset: the pictures.
        cache: file that a bundle's proposals are kept in, and read from if it exists.
        report: called with pictures done, and their number.

    Raises:
        DataError: the file cannot be read.
        BundleError: the bundle cannot be opened.
    """
    if source.suffix == ".json":
        return ProposalTable.read(source)
    if not cache.exists():
        aside = cache.with_name(cache.name + ".partial")
        aside.write_text(json.dumps(_propose(source, dataset, report)), encoding="utf-8")
        aside.replace(cache)
    return ProposalTable.read(cache)


def _propose(
    source: Path, dataset: CocoDataset, report: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    pipeline = foveate.load(source if source.exists() else str(source))
    results: list[dict[str, Any]] = []
    for index in range(len(dataset)):
        proposals = pipeline.propose(dataset.path(index))
        identifier = int(dataset.annotations.picture_ids[index])
        for box, score in zip(proposals.boxes.tolist(), proposals.scores.tolist(), strict=True):
            x0, y0, x1, y1 = (round(value, 2) for value in box)
            results.append(
                {"image_id": identifier, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
            )
        report(index + 1, len(dataset))
    return results
