# SPDX-License-Identifier: Apache-2.0
"""Where the images and the proposals of a training come from."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foveate
from foveate.bundle import Bundle
from foveate.datasets import CocoDataset
from foveate.errors import InputError
from foveate.system.files import write_file
from foveate.training.origin import Origin, is_current, stamp
from foveate.training.sampling import ProposalTable

_log = logging.getLogger(__name__)


def open_proposals(
    source: Path, dataset: CocoDataset, cache: Path, report: Callable[[int, int], None]
) -> ProposalTable:
    """Read proposals, or let a bundle make them; in a broken image it proposes nothing.

    Args:
        source: a file of COCO results; else a bundle, by its path or the name of a shipped one.
        dataset: the images.
        cache: file that a bundle's proposals are kept in.
        report: called with images done, and their number.

    Raises:
        DataError: the file cannot be read.
        BundleError: the bundle cannot be opened.
    """
    if source.suffix == ".json":
        return ProposalTable.read(source)
    origin = proposals_origin(source, dataset)
    if not is_current(cache, origin):
        write_file(cache, json.dumps(_propose(source, dataset, report)).encode())
        stamp(cache, origin)
    return ProposalTable.read(cache)


def proposals_origin(bundle: Path, dataset: CocoDataset) -> Origin:
    """Give what a bundle's proposals depend on.

    Raises:
        BundleError: the bundle cannot be opened.
    """
    files = Bundle.open(bundle).manifest.files
    digests = sorted((name, file.sha256) for name, file in files.items())
    inputs = {"the annotations or images": dataset.digest, "the bundle": digests}
    return Origin(inputs=inputs)


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
            _log.warning("nothing is proposed in an image: %s", error)
            continue
        identifier = int(dataset.annotations.image_ids[index])
        for box, score in zip(proposals.boxes.tolist(), proposals.scores.tolist(), strict=True):
            x0, y0, x1, y1 = (round(value, 2) for value in box)
            results.append(
                {"image_id": identifier, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
            )
    return results
