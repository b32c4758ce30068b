# SPDX-License-Identifier: Apache-2.0
"""One result from the results of the tiles of an image.

A tile shows only a part of an object that its edge cuts. What is found in such a part ends at an edge
of the tile inside of the image. It is a *fragment*, which any result that is no fragment precedes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import numpy as np

from foveate.kernels.nms.cpu import suppress
from foveate.results.detections import Detections, Findings, Proposals
from foveate.results.window_masks import of_windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foveate.arrays import Array, BoolArray, Float32Array, Int64Array
    from foveate.bundle.manifest import Manifest
    from foveate.runtime.tiling import Tile

Result: TypeAlias = Detections | Proposals | Findings
Objects = TypeVar("Objects", Detections, Proposals)
# A fragment ends within this share of its tile's side from the edge; masks end no more precisely.
_NEAR_EDGE = 1 / 64
# A fragment shows an object if more than this share of it lies in the object, or if this is the
# intersection over union of the parts of both that both tiles show.
_FRAGMENT = 0.5
# An image that is cut has at most so many times as many results as one that is not.
_MORE = 10


def moved(result: Result, tile: Tile, *, height: int, width: int) -> Result:
    """Return the result of a tile in the frame of its image of ``height`` x ``width`` pixels.

    Detections without proposals lose the indices of these.
    """
    if not isinstance(result, Findings):
        return cast("Result", _moved(cast("Any", result), tile, height, width))
    proposals = _moved(result.proposals, tile, height, width)
    detections = _moved(result.detections, tile, height, width)
    return Findings(
        proposals=proposals, detections=_from(proposals, result.detections.proposals, detections)
    )


def merge(parts: Sequence[Result], manifest: Manifest) -> Result:
    """Return the results of tiles as one, best first, without those that show the same object.

    Of two results that are no fragments, of the same class if they have classes, the worse one is
    dropped if their boxes overlap by more than the manifest allows. A fragment is dropped if a result
    that is none, or a better fragment, contains most of it or shows the same part of an object, in any
    class. At most ten times as many results remain as an image without tiles can have.

    Args:
        parts: Results of tiles, in the frame of the image.
        manifest: Manifest of the bundle, with the options of the pipeline applied.
    """
    if isinstance(parts[0], Findings):
        return _merge_findings(cast("Sequence[Findings]", parts), manifest)
    found = _joined(cast("Sequence[Proposals]", parts))  # or of detections
    # Joined once more, which leaves out the logits of the others.
    return _joined([found[_kept(found, manifest)]])


def _merge_findings(parts: Sequence[Findings], manifest: Manifest) -> Findings:
    """Merge proposals and detections; the proposals of detections that remain do so too."""
    proposals = _joined([part.proposals for part in parts])
    detections = _joined([part.detections for part in parts])
    firsts = np.cumsum([0, *(len(part.proposals) for part in parts[:-1])])
    rows = [part.detections.proposals + first for part, first in zip(parts, firsts, strict=True)]
    best = _kept(detections, manifest)
    used = np.concatenate(rows)[best]
    kept = np.union1d(_kept(proposals, manifest), used)
    kept = kept[np.argsort(-proposals.scores[kept], kind="stable")]
    ranks = np.zeros(len(proposals), np.int64)
    ranks[kept] = np.arange(len(kept))
    proposals = _joined([proposals[kept]])
    return Findings(proposals=proposals, detections=_from(proposals, ranks[used], detections[best]))


def _from(proposals: Proposals, rows: Int64Array, detections: Detections) -> Detections:
    """Return detections that are made from rows of proposals, with the masks of these."""
    return replace(detections, proposals=rows, masks=proposals.masks[rows])


def _moved(objects: Objects, tile: Tile, height: int, width: int) -> Objects:
    fields: dict[str, Any] = {
        "boxes": objects.boxes + np.array([tile.left, tile.top] * 2, np.float32),
        "masks": of_windows(objects.masks).moved(tile.left, tile.top, height=height, width=width),
    }
    if isinstance(objects, Detections):
        fields["proposals"] = np.full(len(objects), -1, np.int64)
    return replace(objects, **fields)


def _joined(parts: Sequence[Objects]) -> Objects:
    fields: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("boxes", "scores", "labels", "proposals")
        if hasattr(parts[0], name)
    }
    first, *others = (of_windows(part.masks) for part in parts)
    return replace(parts[0], masks=first.joined(others), **fields)


def _kept(found: Detections | Proposals, manifest: Manifest) -> Int64Array:
    """Return the indices of the results that remain, best first."""
    select, labels = manifest.select, None
    # Two tiles that show an object choose different windows, which no suppression of windows compares.
    iou, most = min(select.window_nms_iou, select.proposal_nms_iou), select.top_k
    if isinstance(found, Detections):
        assert manifest.classify is not None
        labels, iou = found.labels, manifest.classify.class_nms_iou
        most = manifest.classify.max_detections
    regions = of_windows(found.masks).regions()
    cut = _is_cut(found.boxes, regions, found.masks.shape)
    whole, fragments = np.flatnonzero(~cut), np.flatnonzero(cut)
    groups = None if labels is None else labels[whole]
    kept = suppress(found.boxes[whole], found.scores[whole], groups, iou, max(len(whole), 1))
    kept = _with_fragments(found.boxes, found.scores, regions, whole[kept], fragments)
    best: Int64Array = np.argsort(-found.scores[kept], kind="stable")[: _MORE * most]
    return kept[best]


def _is_cut(boxes: Float32Array, regions: Int64Array, shape: tuple[int, int, int]) -> BoolArray:
    """Return whether each result ends at an edge of its tile that lies inside of the image."""
    _, height, width = shape
    inside = np.concatenate([regions[:, :2] > 0, regions[:, 2:] < [width, height]], axis=1)
    sides = regions[:, 2:] - regions[:, :2]
    near = np.abs(boxes - regions) <= np.tile(sides, 2) * _NEAR_EDGE
    cut: BoolArray = np.any(inside & near, axis=1)
    return cut


def _with_fragments(
    boxes: Float32Array,
    scores: Float32Array,
    regions: Int64Array,
    kept: Int64Array,
    fragments: Int64Array,
) -> Int64Array:
    """Return the indices that are kept with those of the fragments that show no object of theirs."""
    for one in fragments[np.argsort(-scores[fragments], kind="stable")]:
        inside = _areas(_common(boxes[kept], boxes[one])) > _FRAGMENT * _areas(boxes[one])
        # The object may continue beyond the tile, and the fragment beyond the tile of the object.
        objects, fragment = _common(boxes[kept], regions[one]), _common(boxes[one], regions[kept])
        shared = _areas(_common(objects, fragment))
        same = shared > _FRAGMENT * (_areas(objects) + _areas(fragment) - shared)
        if not np.any(inside | same):
            kept = np.append(kept, one)
    return kept


def _common(one: Array, other: Array) -> Array:
    """Return the intersections of boxes (..., 4), which have no area if there is none."""
    low = np.maximum(one[..., :2], other[..., :2])
    return np.concatenate([low, np.maximum(np.minimum(one[..., 2:], other[..., 2:]), low)], axis=-1)


def _areas(boxes: Array) -> Array:
    areas: Array = np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)
    return areas
