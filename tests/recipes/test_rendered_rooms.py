# SPDX-License-Identifier: Apache-2.0
"""The recipe that makes images of rendered scenes, on two scenes that are drawn here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from tests.samples.paths import ROOT

ROOMS = ROOT / "recipes" / "mini" / "rooms.py"
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

GRAY, BLUE = (90, 90, 90), (250, 40, 20)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of scene 0, which is held out, and scene 1: ten gray boxes on a gray floor."""
    folder = tmp_path_factory.mktemp("rooms")
    scenes = folder / "scenes"
    scenes.mkdir()
    for number in range(2):
        owners = np.zeros((120, 200), np.uint16)
        for box in range(10):
            x, y = 40 * (box % 5) + 6, 60 * (box // 5) + 15
            owners[y : y + 30, x : x + 26] = box + 1
        image = np.dstack([np.full((120, 200, 3), GRAY, np.uint8), np.full_like(owners, 255)])
        cv2.imwrite(str(scenes / f"{number:05d}.png"), image.astype(np.uint8))
        cv2.imwrite(str(scenes / f"{number:05d}_index_0001.png"), owners)
    cv2.imwrite(str(folder / "blue.png"), np.full((60, 80, 3), BLUE, np.uint8))
    for listing in ("backdrops.txt", "textures.txt"):
        (folder / listing).write_text(f"{folder / 'blue.png'}\n", encoding="utf-8")
    parts = [scenes, folder / "backdrops.txt", folder / "textures.txt", folder / "data"]
    subprocess.run(
        [sys.executable, str(ROOMS), *map(str, parts)],
        check=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"},
    )
    return folder / "data"


def bluest(data: Path, split: str) -> tuple[list[float], list[float]]:
    """How much bluer than red each object of a split is, and what lies outside of all of an image."""
    content = json.loads((data / split / "annotations.json").read_text(encoding="utf-8"))
    inside, outside = [], []
    for record in content["images"]:
        image = cv2.imread(str(data / split / "images" / record["file_name"]))
        assert image is not None
        colors = image.astype(float)
        excess = cv2.blur(colors[..., 0] - colors[..., 2], (9, 9))
        masks = [
            coco_mask.decode(one["segmentation"]).astype(bool)
            for one in content["annotations"]
            if one["image_id"] == record["id"]
        ]
        assert len(masks) == 10
        far = cv2.dilate(np.any(masks, axis=0).astype(np.uint8), np.ones((15, 15))) == 0
        inside += [float(excess[mask].max()) for mask in masks]
        outside.append(float(excess[far].max()))
        assert image[far].mean() > 60, "the floor keeps its light"
    return inside, outside


def test_some_things_of_training_images_are_painted_and_nothing_else(data: Path) -> None:
    inside, outside = bluest(data, "train")
    assert len(outside) == 5
    painted = sum(excess > max(outside) + 40 for excess in inside)
    assert 5 <= painted <= 25, "of 50, three in ten"
    assert max(outside) < 60


def test_held_out_images_are_not_painted(data: Path) -> None:
    inside, outside = bluest(data, "validation")
    assert len(outside) == 1
    assert max(inside) < 60
