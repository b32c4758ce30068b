# SPDX-License-Identifier: Apache-2.0
"""The JSON documents that the plain routes answer with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from foveate.bundle import Manifest
from foveate.results.detections import Detections, Proposals


@dataclass(frozen=True, kw_only=True)
class ImageSize:
    """Size of an image, after its orientation was applied.

    Args:
        width: Number of columns.
        height: Number of rows.
    """

    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class RunLengths:
    """A mask in the compressed run-length code of COCO.

    Args:
        size: Height and width of the image.
        counts: The code.
    """

    size: tuple[int, ...]
    counts: str


@dataclass(frozen=True, kw_only=True)
class FoundObject:
    """An object with its class.

    Args:
        box: Left, top, right and bottom in pixels of the image; right and bottom are exclusive.
        score: Calibrated score, 0 to 1.
        label: Index of the class, from 0.
        name: Name of the class.
        mask: Pixels of the object.
    """

    box: tuple[float, ...]
    score: float
    label: int
    name: str
    mask: RunLengths


@dataclass(frozen=True, kw_only=True)
class FoundProposal:
    """An object without a class.

    Args:
        box: Left, top, right and bottom in pixels of the image, which bound the mask.
        score: Objectness, 0 to 1.
        mask: Pixels of the object.
    """

    box: tuple[float, ...]
    score: float
    mask: RunLengths


@dataclass(frozen=True, kw_only=True)
class ObjectsAnswer:
    """The objects in an image.

    Args:
        image: Size of the image.
        objects: The objects, best first.
    """

    image: ImageSize
    objects: tuple[FoundObject, ...]

    @classmethod
    def of(cls, found: Detections) -> ObjectsAnswer:
        """Return the answer with these objects."""
        rows = zip(found.labels.tolist(), _shown(found), strict=True)
        return cls(
            image=_size_of(found),
            objects=tuple(
                FoundObject(label=label, name=found.class_names[label], **one)
                for label, one in rows
            ),
        )


@dataclass(frozen=True, kw_only=True)
class ProposalsAnswer:
    """The objects in an image without their classes.

    Args:
        image: Size of the image.
        proposals: The proposals, best first.
    """

    image: ImageSize
    proposals: tuple[FoundProposal, ...]

    @classmethod
    def of(cls, found: Proposals) -> ProposalsAnswer:
        """Return the answer with these proposals."""
        proposals = tuple(FoundProposal(**one) for one in _shown(found))
        return cls(image=_size_of(found), proposals=proposals)


@dataclass(frozen=True, kw_only=True)
class BundleAnswer:
    """The bundle that is served.

    Args:
        name: Its name.
        class_names: Names of the classes; empty if it only proposes.
        max_side: Longer side of the working image in pixels.
        tiles: Side in pixels of the tiles that large images are cut into, ``auto``, or ``off``.
        scales: Scales of the levels of the pyramid.
        max_proposals: Largest number of proposals.
        max_detections: Largest number of objects; null if it only proposes.
        score_threshold: Smallest score of an object.
        precision: Precision of each network.
        version: Version of Foveate.
    """

    name: str
    class_names: tuple[str, ...]
    max_side: int
    tiles: str
    scales: tuple[float, ...]
    max_proposals: int
    max_detections: int | None
    score_threshold: float
    precision: dict[str, str]
    version: str

    @classmethod
    def of(
        cls, manifest: Manifest, *, tiles: int | str, score_threshold: float, version: str
    ) -> BundleAnswer:
        """Return the answer for a manifest, to which the options of the pipeline were applied."""
        classify = manifest.classify if manifest.classifies else None
        return cls(
            name=manifest.name,
            class_names=manifest.class_names,
            max_side=manifest.pyramid.max_side,
            tiles=str(tiles),
            scales=manifest.pyramid.scales,
            max_proposals=manifest.select.top_k,
            max_detections=None if classify is None else classify.max_detections,
            score_threshold=score_threshold,
            precision={name: manifest.precision_of(name) for name in manifest.networks},
            version=version,
        )


@dataclass(frozen=True, kw_only=True)
class ErrorDetails:
    """Why a request failed.

    Args:
        message: All in one sentence.
        expected: What the server expected.
        found: What it found.
        remedy: What the client can do.
        request_id: Identifier of the request, which is in the log of the server.
    """

    message: str
    expected: str
    found: str
    remedy: str
    request_id: str


@dataclass(frozen=True, kw_only=True)
class ErrorAnswer:
    """An error.

    Args:
        error: Why the request failed.
    """

    error: ErrorDetails


def _size_of(found: Detections | Proposals) -> ImageSize:
    _, height, width = found.masks.shape
    return ImageSize(width=width, height=height)


def _shown(found: Detections | Proposals) -> Iterator[dict[str, Any]]:
    """Yield what objects with and without a class have in common."""
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.masks.rle(), strict=True)
    for box, score, code in rows:
        yield {
            "box": tuple(round(value, 3) for value in box),
            "score": round(score, 6),
            "mask": RunLengths(size=tuple(code["size"]), counts=code["counts"]),
        }
