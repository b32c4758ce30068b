# SPDX-License-Identifier: Apache-2.0
"""What the classifier of `mini` is trained on: labels of each head, box targets, and their losses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from tests.samples.training import silent, write_dataset

from foveate.bundle import Bundle, FeaturesSpec, PyramidSpec
from foveate.datasets import CocoDataset
from foveate.export.execution.sessions import function_pipeline, stage_functions
from foveate.models import MultiPathNet, build
from foveate.runtime import PipelineOptions
from foveate.training.mini.regions import (
    CachedRegions,
    RegionOptions,
    _draw_regions,
    build_regions,
    delta_statistics,
    images_of_each,
    level_canvas,
    multipathnet_step,
    read_regions,
)
from foveate.training.mini.trunk import MEAN, STD, FrozenTrunk
from foveate.training.resume import Origin
from foveate.training.sampling.boxes import BoxStatistics

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NO_CROWDS = np.zeros((0, 4), np.float32)
TRUTHS = np.array([[0, 0, 100, 100], [300, 40, 340, 120]], np.float32)
# Their IoU with the first truth is the hundredth part of their width.
WIDTHS = (72, 45, 57, 77, 52, 67, 62, 3)
PROPOSALS = np.array([[0, 0, width, 100] for width in WIDTHS], np.float32)
CHANNELS = {8: 40, 16: 112, 32: 192}


@pytest.fixture(scope="module")
def sample() -> CachedRegions:
    chance = np.random.default_rng(0)
    maps = {
        stride: chance.normal(size=(channels, 384 // stride, 384 // stride)).astype(np.float16)
        for stride, channels in CHANNELS.items()
    }
    return CachedRegions(
        maps=maps, proposals=PROPOSALS, truths=TRUTHS, labels=np.array([3, 1]), crowds=NO_CROWDS
    )


@pytest.fixture(scope="module")
def cache(sample: CachedRegions, tmp_path_factory: pytest.TempPathFactory) -> list[CachedRegions]:
    folder = tmp_path_factory.mktemp("regions")
    np.savez(
        folder / "0.npz",
        proposals=sample.proposals,
        truths=sample.truths,
        labels=sample.labels,
        crowds=sample.crowds,
        map_8=sample.maps[8],
        map_16=sample.maps[16],
        map_32=sample.maps[32],
    )
    return [read_regions(folder / "0.npz")]


def row_of(boxes: np.ndarray, box: np.ndarray) -> int:
    (row,) = np.flatnonzero((boxes == box).all(axis=1))
    return int(row)


def test_a_head_learns_the_class_of_a_region_from_its_own_overlap_on(sample: CachedRegions) -> None:
    boxes, labels, _ = _draw_regions(sample, np.random.default_rng(0))
    for width, proposal in zip(WIDTHS, PROPOSALS, strict=True):
        passed = [width >= least for least in (50, 55, 60, 65, 70, 75)]
        assert labels[:, row_of(boxes, proposal)].tolist() == [3 * one for one in passed]
    assert labels[:, row_of(boxes, TRUTHS[1])].tolist() == [1] * 6


def test_box_targets_lead_from_a_region_to_its_object(sample: CachedRegions) -> None:
    boxes, _, targets = _draw_regions(sample, np.random.default_rng(0))
    found = targets[row_of(boxes, PROPOSALS[2])]  # 57 wide, of an object that is 100 wide
    assert found == pytest.approx([(50 - 28.5) / 57, 0, np.log(100 / 57), 0], rel=1e-6)


def test_a_quarter_of_the_regions_are_foreground(sample: CachedRegions) -> None:
    proposals = np.concatenate([PROPOSALS[:1]] * 40 + [PROPOSALS[-1:]] * 90)
    many = replace(sample, proposals=proposals)
    _, labels, _ = _draw_regions(many, np.random.default_rng(0))
    assert labels.shape == (6, 64)
    assert (labels[0] > 0).sum() == 16


def test_a_region_mostly_in_a_crowd_is_no_background(sample: CachedRegions) -> None:
    # The first is half in the crowd, the second is less; the third overlaps an object enough.
    proposals = np.array([[200, 0, 220, 40], [198, 0, 220, 40], TRUTHS[1]], np.float32)
    crowded = replace(
        sample, proposals=proposals, crowds=np.array([[210, 0, 350, 200]], np.float32)
    )
    boxes, labels, _ = _draw_regions(crowded, np.random.default_rng(0))
    assert not (boxes == proposals[0]).all(axis=1).any()
    assert labels[0, row_of(boxes, proposals[1])] == 0
    assert labels[0, (boxes == proposals[2]).all(axis=1)].tolist() == [1, 1]
    inside = (boxes[:, 0] >= 210) & (boxes[:, 2] <= 350) & (boxes[:, 3] <= 200)
    assert (labels[0, inside] > 0).all()


@pytest.mark.parametrize(("images", "expected"), [(6, [1, 5]), (3, [0, 3]), (600, [2, 8])])
def test_each_data_set_gives_images_in_proportion(
    images: int, expected: list[int], tmp_path: Path
) -> None:
    datasets = [
        CocoDataset(write_dataset(tmp_path / str(count), images=count) / "train")
        for count in (2, 8)
    ]
    assert images_of_each(datasets, images) == expected


def test_box_targets_are_normalized_by_mean_and_deviation(
    sample: CachedRegions, cache: list[CachedRegions]
) -> None:
    network = build("multipathnet-mini", classes=3)
    assert isinstance(network, MultiPathNet)
    torch.nn.init.zeros_(network.box_head.weight)
    torch.nn.init.zeros_(network.box_head.bias)
    mean = np.array([0.1, -0.2, 0.3, -0.4], np.float32)
    std = np.array([0.1, 0.3, 0.2, 0.5], np.float32)
    statistics = BoxStatistics(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    losses = multipathnet_step(network, cache, statistics, images=1)(np.random.default_rng(0))
    _, labels, targets = _draw_regions(sample, np.random.default_rng(0))
    lost = np.abs((targets[labels[0] > 0] - mean) / std)
    smooth = np.where(lost < 1, lost**2 / 2, lost - 0.5)
    assert losses["box"].item() == pytest.approx(smooth.sum() / labels.shape[1], rel=1e-5)


def test_statistics_are_those_of_the_foregrounds(
    sample: CachedRegions, cache: list[CachedRegions]
) -> None:
    _, labels, targets = _draw_regions(sample, np.random.default_rng(0))
    found = delta_statistics(cache)
    foregrounds = targets[labels[0] > 0].astype(np.float64)
    assert found.mean == pytest.approx(foregrounds.mean(axis=0), abs=1e-6)
    assert found.std == pytest.approx(foregrounds.std(axis=0), rel=1e-5)


@pytest.mark.parametrize("size", [(96, 128), (140, 60), (8, 12), (300, 500)])
def test_a_classifier_learns_from_the_canvas_that_the_runtime_gives_it(
    size: tuple[int, int],
) -> None:
    mini, pyramid = Bundle.open("mini"), PyramidSpec(scales=(0.5, 0.7071, 1.0), max_side=160)
    options = RegionOptions(short_side=70, long_side=130)
    features = FeaturesSpec(short_side=options.short_side, long_side=options.long_side)
    manifest = replace(mini.manifest, pyramid=pyramid, features=features)
    bundle = Bundle(mini.root, manifest)
    functions, seen = stage_functions(bundle), list[np.ndarray]()

    def propose(inputs: dict[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        seen.append(inputs["image"].copy())
        return functions["propose"](inputs)

    def classify(inputs: dict[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        seen.append(inputs["map_16"].copy())
        return functions["classify"](inputs)

    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    recorded = {**functions, "propose": propose, "classify": classify}
    with function_pipeline(bundle, recorded, PipelineOptions(top_k=4)) as pipeline:
        pipeline(image)
    canvas, _ = level_canvas(image, manifest, options)
    *canvases, used = seen
    sides = [side // 16 for side in canvas.shape[:2]]
    assert list(used.shape[2:]) == sides
    normalized = (canvas.astype(np.float32).transpose(2, 0, 1) - MEAN) / STD
    assert any(np.array_equal(one[0], normalized) for one in canvases)


def test_a_cached_sample_is_in_the_frame_of_the_canvas(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data", images=2) / "train"
    content = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    x, y, width, height = content["annotations"][1]["bbox"]
    content["annotations"][1]["iscrowd"] = 1
    crowd = [x, y, x + width, y + height]
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    dataset = CocoDataset(folder)
    options = RegionOptions(short_side=100, long_side=280, images=1)  # of 200 x 300 pixels
    proposed = np.array([[30, 50, 90, 110], [0, 0, 300, 200]], np.float32)

    def trunk(canvas: np.ndarray) -> dict[int, np.ndarray]:
        assert canvas.shape == (208, 256, 3)
        return {stride: np.full((1, 2, 3), stride, np.float32) for stride in (8, 16, 32)}

    cache = build_regions(
        dataset,
        cast("FrozenTrunk", trunk),
        lambda _: proposed,
        Bundle.open("mini").manifest,
        tmp_path / "cache",
        Origin(),
        options,
        silent,
    )
    assert len(cache) == 1
    sample, instances = cache[0], dataset.instances(0)
    assert sample.proposals.tolist() == (proposed / 2 + 48).tolist()
    assert sample.truths.tolist() == [[value / 2 + 48 for value in one.box] for one in instances]
    assert sample.labels.tolist() == [1]
    assert sample.crowds.tolist() == [[value / 2 + 48 for value in crowd]]
    assert [one.label for one in instances] == [0]
    assert {stride: values.flat[0] for stride, values in sample.maps.items()} == {
        8: 8,
        16: 16,
        32: 32,
    }
