# SPDX-License-Identifier: Apache-2.0
"""Damaged annotations: COCO and labelme data sets, and COCO results."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from tests.fuzz.harness import Campaign

from foveate.datasets import find_splits
from foveate.errors import DataError
from foveate.evaluation import Bootstrap, GroundTruth, evaluate_results, read_results
from foveate.training.sampling.boxes import ProposalTable

# Every case logs which objects are left out; without a handler this would be printed.
logging.getLogger("foveate").addHandler(logging.NullHandler())

SIZE = (24, 32)
FEW = Bootstrap(replicates=5)

WRONG: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 1.5, 1e300, -1e300, 10**30, 10**400, 2**63, 2**31, "", "1", "0",
    "seven", "\ud800", "\0", "../" * 9, "/", "n" * 5000, "猫", [], {}, [[]], [None], {"a": 1}, [1, 2],
    float("nan"), float("inf"), [0, 0, 0, 0], [1e9] * 4, [float("nan")] * 4, ["1"] * 4,
)  # fmt: skip
KEYS = ("id", "iscrowd", "segmentation", "image_id", "name", "size", "counts", "group_id", "\ud800")


def random_mask(rng: np.random.Generator) -> dict[str, Any]:
    mask = np.zeros(SIZE, np.uint8, order="F")
    y, x = rng.integers(0, 12, 2)
    mask[y : y + rng.integers(1, 12), x : x + rng.integers(1, 12)] = 1
    code = coco_mask.encode(mask)
    if rng.random() < 0.3:
        edges = np.flatnonzero(np.diff(mask.ravel(order="F"))) + 1
        return {"size": list(SIZE), "counts": np.diff([0, *edges, mask.size]).tolist()}
    return {"size": list(SIZE), "counts": code["counts"].decode()}


def outline(rng: np.random.Generator) -> Any:
    if rng.random() < 0.5:
        return random_mask(rng)
    x, y, w, h = (int(n) for n in rng.integers(1, 12, 4))
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def coco(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in (1, 2)
        ],
        "categories": [{"id": i, "name": n, "supercategory": "none"} for i, n in enumerate("ab")],
        "annotations": [
            {
                "id": i,
                "image_id": i % 2 + 1,
                "category_id": i % 2,
                "segmentation": outline(rng),
                "bbox": [1, 2, 9, 9.5],
                "area": 80,
                "iscrowd": int(rng.random() < 0.2),
            }
            for i in range(5)
        ],
    }


def results(rng: np.random.Generator) -> Any:
    found = [
        {
            "image_id": int(rng.integers(1, 3)),
            "category_id": int(rng.integers(0, 2)),
            "score": float(rng.random()),
            "segmentation": random_mask(rng),
            "bbox": [1, 2, 9, 9.5],
        }
        for _ in range(6)
    ]
    if rng.random() < 0.5:
        return found
    return {**coco(rng), "annotations": found}


def labelme(rng: np.random.Generator) -> dict[str, Any]:
    kinds = ("polygon", "rectangle", "circle", "line")
    return {
        "version": "5.5.0",
        "shapes": [
            {
                "label": "ab"[i % 2],
                "points": rng.integers(0, 24, (2 if kind in kinds[1:] else 5, 2)).tolist(),
                "group_id": None if i < 3 else 7,
                "shape_type": kind,
            }
            for i, kind in enumerate(rng.choice(kinds, 5).tolist())
        ],
        "imagePath": "1.png",
        "imageData": None,
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
    }


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container in a document with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in list(items):
        found.append((value, key))
        if isinstance(inner, (dict, list)):
            found += places(inner)
    return found


def mutate(rng: np.random.Generator, document: Any) -> Any:
    """Change, delete, repeat or move some values."""
    document = copy.deepcopy(document)
    for _ in range(int(rng.integers(1, 4))):
        every = places(document)
        if not every:
            break
        box, key = every[int(rng.integers(len(every)))]
        action = int(rng.integers(6))
        if action == 0:
            del box[key]
        elif action == 1 and isinstance(box, list):
            box.append(copy.deepcopy(box[key]))
        elif action == 2:
            other, where = every[int(rng.integers(len(every)))]
            box[key] = copy.deepcopy(other[where])
        elif action == 3 and isinstance(box, dict):
            box[KEYS[int(rng.integers(len(KEYS)))]] = box.pop(key)
        elif action == 4 and isinstance(box[key], str):
            box[key] = letters(rng, box[key])
        else:
            box[key] = copy.deepcopy(WRONG[int(rng.integers(len(WRONG)))])
    return document


def letters(rng: np.random.Generator, text: str) -> str:
    """Truncate a text, or change some of its letters."""
    kept = list(text[: int(rng.integers(len(text) + 1))] if rng.random() < 0.5 else text)
    for place in rng.integers(0, max(len(kept), 1), int(rng.integers(0, 3)))[: len(kept)]:
        kept[place] = chr(int(rng.integers(32, 127)))
    return "".join(kept)


def damage(rng: np.random.Generator, data: bytes) -> bytes:
    """Change bytes, truncate, repeat a part, or encode the text differently."""
    action = int(rng.integers(5))
    if action == 0:
        return data[: int(rng.integers(len(data)))]
    if action == 1:
        first, last = sorted(rng.integers(0, len(data), 2).tolist())
        return data[:first] + data[first:last] * 2 + data[last:]
    if action == 2:
        return data.decode().encode(("utf-16", "utf-8-sig", "utf-32")[int(rng.integers(3))])
    if action == 3:
        return data.replace(b"[", b"[" * 3000)
    changed = bytearray(data)
    for place in rng.integers(0, len(data), int(rng.integers(1, 6))).tolist():
        changed[place] = int(rng.integers(256))
    return bytes(changed)


def damage_codes(rng: np.random.Generator, document: Any) -> Any:
    """Change every compressed run-length code."""
    document = copy.deepcopy(document)
    for box, key in places(document):
        if key == "counts" and isinstance(box[key], str):
            box[key] = letters(rng, box[key])
    return document


def written(document: Any) -> bytes:
    return json.dumps(document).encode()


def changed(rng: np.random.Generator, document: Any) -> bytes:
    kind = rng.random()
    if kind < 0.2:
        return damage(rng, written(document))
    if kind < 0.4:
        return written(damage_codes(rng, document))
    return written(mutate(rng, document))


def draw(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in (1, 2):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((*SIZE, 3), 40 * i, np.uint8))


def damaged_set(rng: np.random.Generator, folder: Path) -> Path:
    draw(folder / "images")
    (folder / "annotations.json").write_bytes(changed(rng, coco(rng)))
    return folder


def damaged_labelme(rng: np.random.Generator, folder: Path) -> Path:
    draw(folder)
    (folder / "1.json").write_bytes(changed(rng, labelme(rng)))
    (folder / "2.json").write_bytes(written({**labelme(rng), "imagePath": "2.png"}))
    return folder


def damaged_results(rng: np.random.Generator, folder: Path) -> Path:
    (folder / "truth.json").write_bytes(written(coco(np.random.default_rng(0))))
    (folder / "results.json").write_bytes(changed(rng, results(rng)))
    return folder


def train_and_evaluate(folder: Path) -> None:
    """Read everything that training and evaluation read from a data set."""
    for use in (train, train_with_boxes, GroundTruth.open):
        try:
            use(folder)
        except DataError as error:
            str(error).encode(errors="surrogateescape")


def train(folder: Path) -> None:
    dataset = find_splits(folder).train
    assert len(dataset.digest) == 64
    for index in range(len(dataset)):
        for instance in dataset.instances(index):
            # A very thin polygon may cover no pixel.
            assert instance.mask.max(initial=0) <= 1
            assert np.isfinite(instance.box).all()
    if len(dataset) > 1:
        dataset.split(0.5)


def train_with_boxes(folder: Path) -> None:
    table = find_splits(folder, masks=False).train.annotations
    assert np.isfinite(table.boxes).all()
    assert np.isfinite(table.areas).all()


def measure(folder: Path) -> None:
    """Evaluate results, and read them as proposals for training."""
    truth = GroundTruth.open(folder, annotations=folder / "truth.json")
    uses: tuple[Callable[[], object], ...] = (
        lambda: ProposalTable.read(folder / "results.json"),
        lambda: evaluate(folder / "results.json", truth, "proposals"),
        lambda: evaluate(folder / "results.json", truth, "detections"),
    )
    for use in uses:
        try:
            use()
        except DataError as error:
            str(error).encode(errors="surrogateescape")


def evaluate(file: Path, truth: GroundTruth, task: Any) -> None:
    found = read_results(file, truth, task=task)
    evaluate_results(found, truth, task=task, resampling=FEW).table()


CAMPAIGNS = (
    Campaign(name="data sets", make=damaged_set, use=train_and_evaluate),
    Campaign(name="labelme", make=damaged_labelme, use=train_and_evaluate),
    Campaign(name="results", make=damaged_results, use=measure),
)
