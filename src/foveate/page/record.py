# SPDX-License-Identifier: Apache-2.0
"""What a page shows of one image."""

from __future__ import annotations

import base64
from math import log
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from foveate.page.paths import path_of
from foveate.plain_text import portable_name
from foveate.results.window_masks import of_windows
from foveate.runtime.sizes import Sizes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from foveate.arrays import UInt8Array
    from foveate.bundle import Manifest
    from foveate.results.detections import Findings
    from foveate.results.masks import Masks

# Smallest score of a detection for a page, whose slider begins at the threshold of the command.
SCORE_THRESHOLD = 0.05
_LONGER_SIDE, _THUMBNAIL_HEIGHT = 1600, 72  # pixels of the embedded images
_QUALITY, _THUMBNAIL_QUALITY = 88, 75


def page_record(
    name: str,
    findings: Findings,
    manifest: Manifest,
    *,
    image: UInt8Array | None = None,
    stages: Mapping[str, float] | None = None,
    score_threshold: float = 0.25,
) -> dict[str, Any]:
    """Return what a page shows of one image, as values of JSON.

    Args:
        name: Name of the image.
        findings: Its proposals and detections, those below ``score_threshold`` among them.
        manifest: ``Pipeline.manifest`` of the pipeline that found them.
        image: (H, W, 3) uint8 RGB. It becomes a JPEG whose longer side is at most 1600 pixels. None
            if the page has the image.
        stages: Time of each stage in ms.
        score_threshold: Score at which the page's slider begins.

    Returns:
        ``name``, ``width``, ``height``, ``image`` and ``thumbnail`` (data URIs, or None), ``classes``
        (names), ``levels`` (scale, and side of the window in pixels of the image), ``stages``,
        ``score_threshold``, and ``detections`` and ``proposals``, best first: ``class`` (index; of
        detections only), ``score``, ``box`` (xyxy), ``area``, ``level`` (index), ``path`` (SVG,
        even-odd) and ``rle`` (COCO's counts). All are in pixels of the given image.
    """
    proposals, detections = findings.proposals, findings.detections
    _, height, width = proposals.masks.shape
    levels = _levels(height, width, manifest)
    # Computed once per proposal; several detections may have the mask of one.
    masks = _masks(proposals.masks, [side for _, side in levels])
    embedded, thumbnail = (None, None) if image is None else _embed(image)
    return {
        "name": portable_name(name),
        "width": width,
        "height": height,
        "image": embedded,
        "thumbnail": thumbnail,
        "classes": list(manifest.class_names),
        "levels": [{"scale": scale, "window": round(side)} for scale, side in levels],
        "stages": {stage: round(ms, 2) for stage, ms in (stages or {}).items()},
        "score_threshold": score_threshold,
        "detections": [
            {"class": label, **_scored(score, box), **masks[rank]}
            for label, score, box, rank in zip(
                detections.labels.tolist(),
                detections.scores.tolist(),
                detections.boxes.tolist(),
                detections.proposals.tolist(),
                strict=True,
            )
        ],
        "proposals": [
            {**_scored(score, box), **mask}
            for score, box, mask in zip(
                proposals.scores.tolist(), proposals.boxes.tolist(), masks, strict=True
            )
        ],
    }


def _scored(score: float, box: Sequence[float]) -> dict[str, Any]:
    return {"score": round(score, 4), "box": [round(value, 1) for value in box]}


def _masks(masks: Masks, sides: Sequence[float]) -> list[dict[str, Any]]:
    _, windows = of_windows(masks).windows()
    codes, longer_side = masks.rle(), max(masks.shape[1:])
    areas = [int(coco_mask.area(code)) for code in codes]
    return [
        {
            "area": areas[index],
            "level": _nearest(float(windows[index, 2]), sides),
            "path": path_of(masks.outline(index), areas[index], longer_side),
            "rle": codes[index]["counts"],
        }
        for index in range(len(masks))
    ]


def _levels(height: int, width: int, manifest: Manifest) -> list[tuple[float, float]]:
    """Return the scale of each level, and the side of its window in pixels of the image."""
    levels = Sizes.of(height, width, manifest).levels
    scales = manifest.pyramid.scales
    return [
        (scale, manifest.windows.size * level.horizontal)
        for scale, level in zip(scales, levels, strict=True)
    ]


def _nearest(side: float, sides: Sequence[float]) -> int:
    return min(range(len(sides)), key=lambda level: abs(log(side / sides[level])))


def _embed(image: UInt8Array) -> tuple[str, str]:
    """Return an image and its thumbnail as data URIs."""
    image = _shrink(image, _LONGER_SIDE / max(image.shape[:2]))
    small = _shrink(image, _THUMBNAIL_HEIGHT / image.shape[0])
    return _data_uri(image, _QUALITY), _data_uri(small, _THUMBNAIL_QUALITY)


def _shrink(image: UInt8Array, scale: float) -> UInt8Array:
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    shrunk = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return shrunk.astype(np.uint8, copy=False)


def _data_uri(image: UInt8Array, quality: int) -> str:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
