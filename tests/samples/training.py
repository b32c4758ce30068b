# SPDX-License-Identifier: Apache-2.0
"""Samplers and narrow networks that the tests of training share: discs on a real photograph."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from tests.samples.paths import CAT

from foveate.models import DeepMask, MultiPathNet, SharpMask, build
from foveate.training.original.run import OriginalOptions
from foveate.training.sampling.samples import MaskSample, RegionSample, ScoreSample

NARROW = {"width": 4, "neck": 8, "vector": 16, "score_hidden": 16}


def silent(*_: object) -> None:
    """Report nothing."""


def narrow_run(dataset: Path, output: Path, **changes: Any) -> OriginalOptions:
    """A run of a few steps of the narrow DeepMask, in this process."""
    base = OriginalOptions(
        network="deepmask-resnet50",
        dataset=dataset,
        output=output,
        sizes=NARROW,
        steps=4,
        batch=2,
        device="cpu",
        workers=0,
    )
    return replace(base, **changes)


def narrow_deepmask() -> DeepMask:
    network = build("deepmask-resnet50", **NARROW)
    assert isinstance(network, DeepMask)
    return network


def narrow_sharpmask() -> SharpMask:
    network = build("sharpmask-resnet50", km=16, ks=16, **NARROW)
    assert isinstance(network, SharpMask)
    return network


def narrow_detector() -> MultiPathNet:
    network = build("multipathnet-vgg16", classes=2, width=4, mixed=8, hidden=16)
    assert isinstance(network, MultiPathNet)
    return network


def photograph() -> NDArray[np.uint8]:
    """(200, 300, 3) uint8 RGB."""
    image = cv2.imread(str(CAT), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return np.asarray(cv2.resize(image, (300, 200)), np.uint8)


@dataclass(frozen=True)
class Masks:
    """Windows with a disc in the middle."""

    label_side: int = 112
    image: NDArray[np.uint8] = field(default_factory=photograph)

    def draw(self, rng: np.random.Generator) -> MaskSample:
        patch, radius = _patch(self.image, rng, disc=True)
        scale = self.label_side / 160
        mask = np.zeros((self.label_side,) * 2, np.uint8)
        cv2.circle(mask, (self.label_side // 2,) * 2, round(radius * scale), 1, -1)
        return MaskSample(patch=patch, mask=mask)


@dataclass(frozen=True)
class Scores:
    """Windows with or without a disc."""

    image: NDArray[np.uint8] = field(default_factory=photograph)

    def draw(self, rng: np.random.Generator) -> ScoreSample:
        label = rng.integers(2, dtype=np.uint8)
        patch, _ = _patch(self.image, rng, disc=bool(label))
        return ScoreSample(patch=patch, label=np.asarray(label))


@dataclass(frozen=True)
class Regions:
    """The photograph with a disc of class 1 or 2, and boxes on and beside it, for every head."""

    image: NDArray[np.uint8] = field(default_factory=photograph)

    def draw(self, rng: np.random.Generator, head: int | None = None) -> RegionSample:  # noqa: ARG002 - samplers take a head
        image = self.image.copy()
        x, y, label = (
            int(rng.integers(50, 150)),
            int(rng.integers(50, 150)),
            int(rng.integers(1, 3)),
        )
        cv2.circle(image, (x, y), 30, _color(label), -1)
        truth = np.array([x - 30, y - 30, x + 30, y + 30], np.float32)
        near = truth + rng.normal(0, 3, (4, 4))
        far = truth + np.array([80, 0, 80, 0]) + rng.normal(0, 3, (12, 4))
        labels = np.zeros((6, 16), np.int64)
        labels[:, :4] = label
        targets = np.zeros((16, 4), np.float32)
        targets[:4] = (truth - near) / 60
        boxes = np.concatenate([near, far]).astype(np.float32)
        return RegionSample(image=image, boxes=boxes, labels=labels, targets=targets)


def _color(label: int) -> tuple[int, int, int]:
    return (255, 40, 40) if label == 1 else (40, 40, 255)


def _patch(
    image: NDArray[np.uint8], rng: np.random.Generator, *, disc: bool
) -> tuple[NDArray[np.uint8], int]:
    y, x = rng.integers(0, image.shape[0] - 192 + 1), rng.integers(0, image.shape[1] - 192)
    patch = image[y : y + 192, x : x + 192].copy()
    radius = int(rng.integers(36, 55))
    if disc:
        cv2.circle(patch, (96, 96), radius, _color(1), -1)
    return patch, radius


def write_dataset(directory: Path, images: int = 4) -> Path:
    """Write a COCO-format training set: the photograph with a disc (RLE) and a square (polygon)."""
    folder = directory / "train" / "images"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    records: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in range(1, images + 1):
        image = photograph()
        x, y = int(rng.integers(60, 90)), int(rng.integers(60, 140))
        disc = np.zeros(image.shape[:2], np.uint8)
        cv2.circle(disc, (x, y), 40, 1, -1)
        image[disc == 1] = _color(1)
        cv2.rectangle(image, (180, y - 30), (239, y + 29), _color(2), -1)
        rle = coco_mask.encode(np.asfortranarray(disc))
        shapes: list[tuple[int, object, list[float]]] = [
            (
                1,
                {"size": rle["size"], "counts": rle["counts"].decode()},
                coco_mask.toBbox(rle).tolist(),
            ),
            (2, [[180, y - 30, 240, y - 30, 240, y + 30, 180, y + 30]], [180, y - 30, 60, 60]),
        ]
        for category, segmentation, box in shapes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "segmentation": segmentation,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        cv2.imwrite(str(folder / f"{number}.png"), image[..., ::-1])
        records.append({"id": number, "file_name": f"{number}.png", "height": 200, "width": 300})
    categories = [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}]
    content = {"images": records, "annotations": annotations, "categories": categories}
    (directory / "train" / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return directory


def write_proposals(directory: Path, file: Path) -> Path:
    """Write COCO results beside each object: near enough to be foreground, and not."""
    text = (directory / "train" / "annotations.json").read_text(encoding="utf-8")
    results = [
        {
            "image_id": annotation["image_id"],
            "score": 1 - shift / 100,
            "bbox": [annotation["bbox"][0] + shift, *annotation["bbox"][1:]],
        }
        for annotation in json.loads(text)["annotations"]
        for shift in (0, 2, 5, 30, 40)
    ]
    file.write_text(json.dumps(results), encoding="utf-8")
    return file
