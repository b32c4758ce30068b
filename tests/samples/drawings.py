# SPDX-License-Identifier: Apache-2.0
"""Drawn images of boxes and discs, with their outlines, as a newcomer might have annotated them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

NAMES = ("box", "disc")
SIDE = (240, 320)


def draw(seed: int) -> tuple[NDArray[np.uint8], list[tuple[int, NDArray[np.int32]]]]:
    """Draw three shapes on noise: (240, 320, 3) uint8 RGB, and class and outline of each."""
    rng = np.random.default_rng(seed)
    height, width = SIDE
    gray = np.full((*SIDE, 3), rng.integers(60, 200, 3)) + rng.normal(0, 6, (*SIDE, 3))
    image = np.clip(gray, 0, 255).astype(np.uint8)
    shapes = []
    for number in range(3):
        kind = (seed + number) % 2
        s = int(min(SIDE) * rng.uniform(0.12, 0.22))
        x, y = int(rng.uniform(s, width - s)), int(rng.uniform(s, height - s))
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        outline = np.stack([x + s * np.cos(angles), y + s * np.sin(angles)], 1).round()
        if kind == 0:
            outline = np.array([[x - s, y - s], [x + s, y - s], [x + s, y + s], [x - s, y + s]])
        cv2.fillPoly(image, [outline.astype(np.int32)], rng.integers(0, 255, 3).tolist())
        shapes.append((kind, outline.astype(np.int32)))
    return image, shapes


def write_cvat(folder: Path, seeds: range) -> None:
    """Write drawings in the directories that CVAT exports as COCO 1.0."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, seed in enumerate(seeds, 1):
        image, shapes = draw(seed)
        name = f"scene_{seed}.png"
        cv2.imwrite(str(folder / "images" / name), image[:, :, ::-1])
        images.append({"id": number, "file_name": name, "height": SIDE[0], "width": SIDE[1]})
        for kind, outline in shapes:
            x, y, width, height = cv2.boundingRect(outline)
            annotation: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": number,
                "iscrowd": 0,
            }
            annotation |= {"category_id": kind + 1, "bbox": [x, y, width - 1, height - 1]}
            annotation |= {"area": cv2.contourArea(outline)}
            annotations.append({**annotation, "segmentation": [outline.ravel().tolist()]})
    categories = [{"id": i + 1, "name": n, "supercategory": ""} for i, n in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    file = folder / "annotations" / "instances_default.json"
    file.write_text(json.dumps(content), encoding="utf-8")


def best_overlap(masks: NDArray[np.bool_], outline: NDArray[np.int32]) -> float:
    """The best IoU of (N, 240, 320) masks with an outline, 0 if there are none."""
    truth = np.zeros(SIDE, np.uint8)
    cv2.fillPoly(truth, [outline], 1)
    one = truth.astype(bool)
    return max(((m & one).sum() / (m | one).sum() for m in masks), default=0.0)


def white_box(patch: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the pixels brighter than between gray and white."""
    rows, columns = np.nonzero(patch[..., 0] > 157)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
