# SPDX-License-Identifier: Apache-2.0
"""Where the pictures and the proposals of a training come from."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foveate
from foveate.errors import DataError, InputError
from foveate.training.dataset import CocoDataset
from foveate.training.sampling import ProposalTable

_log = logging.getLogger(__name__)


def open_training_set(directory: Path) -> CocoDataset:
    """Open the training pictures of a data set, in either layout.

    Args:
        directory: has `train/annotations.json` and `train/pictures/`, or as COCO is published
            `annotations/instances_train<year>.json` and `train<year>/`.

    Raises:
        DataError: it has neither, or several years.
    """
    found = _open_split(directory, "train", "train")
    if found is None:
        raise DataError(
            "expected train/annotations.json, or one annotations/instances_train<year>.json, "
            "found none",
            file=directory,
            remedy="lay the data set out in one of these ways",
        )
    return found


def open_validation_set(directory: Path) -> CocoDataset | None:
    """Open the held-out pictures, `validation/` or `val<year>/`; None if there are none.

    Raises:
        DataError: there are several years, or the annotations cannot be read.
    """
    return _open_split(directory, "validation", "val")


def _open_split(directory: Path, folder: str, prefix: str) -> CocoDataset | None:
    if (directory / folder / "annotations.json").is_file():
        return CocoDataset(directory / folder)
    found = sorted((directory / "annotations").glob(f"instances_{prefix}*.json"))
    if len(found) > 1:
        raise DataError(
            f"expected {folder}/annotations.json, or one annotations/instances_{prefix}<year>.json,"
            f" found {', '.join(file.name for file in found)}",
            file=directory,
            remedy="lay the data set out in one of these ways",
        )
    if not found:
        return None
    pictures = directory / found[0].stem.removeprefix("instances_")
    return CocoDataset(pictures, annotations=found[0])


def open_proposals(
    source: Path, dataset: CocoDataset, cache: Path, report: Callable[[int, int], None]
) -> ProposalTable:
    """Read proposals, or let a bundle make them; in a broken picture it proposes nothing.

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
    pipeline = foveate.load(source)
    results: list[dict[str, Any]] = []
    for index in range(len(dataset)):
        report(index + 1, len(dataset))
        try:
            proposals = pipeline.propose(dataset.path(index))
        except InputError as error:
            _log.warning("nothing is proposed in a picture: %s", error)
            continue
        identifier = int(dataset.annotations.picture_ids[index])
        for box, score in zip(proposals.boxes.tolist(), proposals.scores.tolist(), strict=True):
            x0, y0, x1, y1 = (round(value, 2) for value in box)
            results.append(
                {"image_id": identifier, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
            )
    return results
