# SPDX-License-Identifier: Apache-2.0
"""A drawn scene with results in it, and its evaluation by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from foveate.evaluation import Bootstrap, Estimate, GroundTruth, Measurement

SIZE = (120, 160)
CLASSES = {"cat": 3, "bird": 5, "boat": 9}


def rectangle(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[y : y + height, x : x + width] = 1
    rle: dict[str, Any] = coco_mask.encode(mask)
    return rle


def annotation(identifier: int, image: int, category: int, rle: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": identifier,
        "image_id": image,
        "category_id": category,
        "segmentation": rle,
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": float(coco_mask.area(rle)),
        "iscrowd": 0,
        "family": f"family {identifier % 7}",
    }


def scene(images: int = 12, seed: int = 3) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Random rectangles with a few crowds, and results near some of them, with equal scores."""
    random = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        for _ in range(int(random.integers(0, 6))):
            x, y = int(random.integers(0, 100)), int(random.integers(0, 80))
            width, height = int(random.integers(4, 59)), int(random.integers(4, 39))
            category = int(random.choice(list(CLASSES.values())))
            rle = rectangle(x, y, width, height)
            entry = annotation(len(annotations) + 1, image, category, rle)
            entry["iscrowd"] = int(random.random() < 0.1)
            annotations.append(entry)
            for _ in range(int(random.integers(0, 9))):
                dx, dy = random.integers(-3, 4, 2)
                found = rectangle(max(x + int(dx), 0), max(y + int(dy), 0), width + 1, height)
                guess = category if random.random() < 0.8 else 3
                results.append(
                    {
                        "image_id": image,
                        "category_id": guess,
                        "score": float(random.integers(0, 20)) / 20,
                        "segmentation": found,
                        "bbox": coco_mask.toBbox(found).tolist(),
                    }
                )
    records = [
        {"id": i, "file_name": f"{i}.jpg", "height": SIZE[0], "width": SIZE[1]}
        for i in range(1, images + 1)
    ]
    categories = [{"id": i, "name": name} for name, i in CLASSES.items()]
    return {"images": records, "annotations": annotations, "categories": categories}, results


def open_truth(content: dict[str, Any]) -> GroundTruth:
    return GroundTruth(content, images=Path("images"), name="scene")


def plain_coco(
    content: dict[str, Any],
    results: list[dict[str, Any]],
    *,
    kind: str,
    by_class: bool,
    most: int = 100,
    library: tuple[Any, Any] = (COCO, COCOeval),
) -> Any:
    """Evaluate as pycocotools' own demo does, by it or by a library with the same two classes."""
    content_class, evaluation_class = library
    keep = "segmentation" if kind == "segm" else "bbox"
    own = {"image_id", "category_id", "score", keep}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = content_class()
        truth.dataset = json.loads(json.dumps(content, default=bytes.decode))
        truth.createIndex()
        found = truth.loadRes([{k: v for k, v in r.items() if k in own} for r in results])
        evaluated = evaluation_class(truth, found, kind)
        evaluated.params.useCats = int(by_class)
        evaluated.params.maxDets = [1, 10, most] if most <= 100 else [10, 100, most]
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    return evaluated.stats


def measure(
    truth: GroundTruth,
    results: list[dict[str, Any]],
    *,
    resampling: Bootstrap | None = None,
    **options: Any,
) -> dict[str, Estimate]:
    """Measure a list of COCO results; `options` are those of `Measurement`."""
    measurement = Measurement(truth, **options)
    for image in truth.images:
        own = [result for result in results if result["image_id"] == image.identifier]
        measurement.add(image, own)
    return measurement.figures(resampling)
