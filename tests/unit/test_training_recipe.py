# SPDX-License-Identifier: Apache-2.0
"""The whole training on three small pictures: every part is run, none learns much."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from foveate.models import SharpMask
from foveate.models.checkpoint import load_checkpoint
from foveate.training.dataset import CocoDataset
from foveate.training.loop import LoopOptions
from foveate.training.recipe import Recipe, train_cascade, train_proposals
from foveate.training.region_cache import RegionOptions
from foveate.training.window_cache import CacheOptions

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS = LoopOptions(steps=2, checkpoint_every=1)
RECIPE = Recipe(
    cache=CacheOptions(views_per_picture=20, fine_every=1),
    deepmask=STEPS,
    sharpmask=STEPS,
    regions=RegionOptions(short_side=128, long_side=256, pictures=4),
    multipathnet=STEPS,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    """Four noisy pictures, each with a disc and a square on it."""
    directory = tmp_path_factory.mktemp("data")
    (directory / "pictures").mkdir()
    rng = np.random.default_rng(0)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in range(1, 5):
        picture = rng.integers(60, 120, (240, 320, 3)).astype(np.uint8)
        for category in (1, 2):
            mask = np.zeros((240, 320), np.uint8)
            centre = int(160 * category - 80), int(rng.integers(90, 150))
            if category == 1:
                cv2.circle(mask, centre, 45, 1, -1)
            else:
                corner = centre[0] - 40, centre[1] - 40
                cv2.rectangle(mask, corner, (centre[0] + 40, centre[1] + 40), 1, -1)
            picture[mask == 1] = (250, 60, 40) if category == 1 else (30, 60, 240)
            rle = coco_mask.encode(np.asfortranarray(mask))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": coco_mask.toBbox(rle).tolist(),
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
        cv2.imwrite(str(directory / "pictures" / f"{number}.png"), picture[..., ::-1])
        images.append({"id": number, "file_name": f"{number}.png", "height": 240, "width": 320})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}],
    }
    (directory / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return CocoDataset(directory)


def silent(name: str, done: int, total: int, losses: dict[str, float]) -> None:
    """Report nothing."""


@pytest.mark.slow
def test_a_run_trains_all_three_networks_and_is_not_done_twice(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    result = train_cascade(dataset, tmp_path, RECIPE, silent)
    cascade = load_checkpoint(result)
    assert cascade.info.class_names == ("disc", "square")
    assert cascade.classifier is not None
    before = result.stat().st_mtime_ns
    assert train_cascade(dataset, tmp_path, RECIPE, silent) == result
    assert result.stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_seed_decides_the_weights(dataset: CocoDataset, tmp_path: Path) -> None:
    runs = [
        train_proposals(dataset, tmp_path / str(number), RECIPE.seeded(7), silent).proposals
        for number in range(2)
    ]
    for network in runs:
        assert isinstance(network, SharpMask)
    one, other = (network.state_dict() for network in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)
