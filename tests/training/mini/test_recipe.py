# SPDX-License-Identifier: Apache-2.0
"""The whole training on three small images: every part is run, none learns much."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from foveate.bundle import Bundle
from foveate.cli import invoke
from foveate.cli._train_mini import _FLAGS
from foveate.datasets import CocoDataset
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.models import EfficientNetLite0, SharpMask
from foveate.models.checkpoint import CascadeInfo, build_cascade, load_checkpoint, save_checkpoint
from foveate.models.networks import sharpmask_mini
from foveate.training.loop import LoopOptions
from foveate.training.mini import train as mini_train
from foveate.training.mini.recipe import Recipe
from foveate.training.mini.regions import RegionOptions
from foveate.training.mini.train import average_with, train_cascade, train_proposals
from foveate.training.mini.trunk import FrozenTrunk
from foveate.training.mini.window_cache import CacheOptions, WindowCache, build_cache
from foveate.training.resume import Origin, OtherOptionsError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS = LoopOptions(steps=2, checkpoint_every=1)
RECIPE = Recipe(
    cache=CacheOptions(views_per_image=20, fine_every=1),
    deepmask=STEPS,
    sharpmask=STEPS,
    mask_head=STEPS,
    regions=RegionOptions(short_side=128, long_side=256, images=4),
    multipathnet=STEPS,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    """Four noisy images, each with a disc and a square on it."""
    directory = tmp_path_factory.mktemp("data")
    (directory / "images").mkdir()
    rng = np.random.default_rng(0)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in range(1, 5):
        image = rng.integers(60, 120, (240, 320, 3)).astype(np.uint8)
        for category in (1, 2):
            mask = np.zeros((240, 320), np.uint8)
            center = int(160 * category - 80), int(rng.integers(90, 150))
            if category == 1:
                cv2.circle(mask, center, 45, 1, -1)
            else:
                corner = center[0] - 40, center[1] - 40
                cv2.rectangle(mask, corner, (center[0] + 40, center[1] + 40), 1, -1)
            image[mask == 1] = (250, 60, 40) if category == 1 else (30, 60, 240)
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
        cv2.imwrite(str(directory / "images" / f"{number}.png"), image[..., ::-1])
        images.append({"id": number, "file_name": f"{number}.png", "height": 240, "width": 320})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}],
    }
    (directory / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return CocoDataset(directory)


def silent(*_: object) -> None:
    """Report nothing."""


@pytest.mark.slow
def test_a_run_trains_all_three_networks_and_is_not_done_twice(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    result = train_cascade([dataset, dataset], tmp_path, RECIPE, silent, extra_datasets=[dataset])
    cascade = load_checkpoint(result)
    assert cascade.info.class_names == ("disc", "square")
    assert cascade.classifier is not None
    before = result.stat().st_mtime_ns
    assert cascade.info.training["images"] == "4 + 4 + 4"
    assert (
        train_cascade([dataset, dataset], tmp_path, RECIPE, silent, extra_datasets=[dataset])
        == result
    )
    assert result.stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_seed_decides_the_weights(dataset: CocoDataset, tmp_path: Path) -> None:
    runs = [
        train_proposals([dataset], tmp_path / str(number), RECIPE.seeded(7), silent).proposals
        for number in range(2)
    ]
    for network in runs:
        assert isinstance(network, SharpMask)
    one, other = (network.state_dict() for network in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_caches_read_as_one_keep_every_window_with_its_view(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    trunk = FrozenTrunk(EfficientNetLite0(last_stride=16), 16)
    caches = [
        build_cache(
            dataset,
            trunk,
            tmp_path / str(seed),
            CacheOptions(views_per_image=1, fine_every=2, seed=seed),
            lambda *_: None,
        )
        for seed in (1, 2)
    ]
    joined = WindowCache(tmp_path / "1", tmp_path / "2")
    for name in ("coarse", "scores", "mask_cells", "mask_labels"):
        parts = [getattr(cache, name) for cache in caches]
        np.testing.assert_array_equal(getattr(joined, name), np.concatenate(parts))
    views = np.concatenate([cache.coarse[cache.mask_views] for cache in caches])
    np.testing.assert_array_equal(joined.coarse[joined.mask_views], views)
    labels = np.concatenate([cache.mask_labels[cache.fine_masks] for cache in caches])
    np.testing.assert_array_equal(joined.mask_labels[joined.fine_masks], labels)
    assert len(joined.fine[2]) == len(joined.fine_masks)


@pytest.mark.slow
def test_training_goes_on_from_the_networks_it_is_given(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    bundle = cascade_from_bundle(Bundle.open("mini")).proposals
    assert isinstance(bundle, SharpMask)
    still = replace(STEPS, steps=1, learning_rate=0.0)
    recipe = replace(RECIPE, deepmask=still, sharpmask=still)
    trained = train_proposals([dataset], tmp_path, recipe, silent, bundle).proposals.state_dict()
    for name, weights in bundle.state_dict().items():
        if not name.startswith("deepmask.mask."):  # a bundle does not hold it
            assert torch.equal(trained[name], weights), name


@pytest.mark.slow
def test_what_goes_on_ends_as_the_mean_of_before_and_after(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    before = cascade_from_bundle(Bundle.open("mini")).proposals
    assert isinstance(before, SharpMask)
    mean = train_proposals([dataset], tmp_path, RECIPE, silent, before).proposals.state_dict()
    after = torch.load(tmp_path / "sharpmask.training", weights_only=True)["network"]
    moved = 0
    for name, weights in before.state_dict().items():
        if name.startswith("deepmask.mask."):  # it learned alone, twice
            continue
        moved += not torch.equal(after[name], weights)
        torch.testing.assert_close(mean[name], ((weights + after[name]) / 2).half().float())
    assert moved > 20
    masks = load_checkpoint(tmp_path / "deepmask.safetensors").proposals.state_dict()
    assert not torch.equal(masks["mask.weight"], after["deepmask.mask.weight"].half().float())
    assert torch.equal(masks["embed.weight"], mean["deepmask.embed.weight"])


def test_the_mean_leaves_the_mask_head_alone() -> None:
    torch.manual_seed(0)
    network, initial = sharpmask_mini(), sharpmask_mini()
    trained = {name: weights.clone() for name, weights in network.state_dict().items()}
    average_with(network, initial, 0.25)
    for name, weights in network.state_dict().items():
        share = 0.0 if name.startswith("deepmask.mask.") else 0.25
        expected = (1 - share) * trained[name] + share * initial.state_dict()[name]
        torch.testing.assert_close(weights, expected)


def test_a_path_is_no_name_of_a_shipped_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`./mini` is the directory that lies there, `mini` the shipped bundle."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini").mkdir()
    words = ["train", "--dataset", "nowhere", "--output", "run", "--init-from"]
    assert invoke([*words, "./mini"]) == 1
    assert f"it has no manifest: {tmp_path / 'mini' / 'manifest.json'}" in capsys.readouterr().err
    assert invoke([*words, "mini"]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_a_bundle_of_other_networks_is_no_start(
    tmp_path: Path, dataset: CocoDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    network = build_cascade(CascadeInfo(proposals="deepmask-mini"))
    save_checkpoint(tmp_path / "deepmask.safetensors", network)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train").symlink_to(dataset.file.parent)
    words = ["train", "--dataset", str(folder), "--output", str(tmp_path / "run"), "--init-from"]
    assert invoke([*words, str(tmp_path / "deepmask.safetensors")]) == 1
    message = "expected sharpmask-mini to start from, found deepmask-mini"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        (RECIPE.stepped({"deepmask": 9, "mask_head": 1}), "--deepmask-steps 2, not 9"),
        (RECIPE.stepped({"multipathnet": 9}), "--multipathnet-steps 2, not 9"),
        (RECIPE.seeded(7), "--seed 0, not 7"),
        (replace(RECIPE, cache=CacheOptions(views_per_image=4, fine_every=1)), "--views 20, not 4"),
        (replace(RECIPE, regions=replace(RECIPE.regions, images=9)), "--regions 4, not 9"),
        (replace(RECIPE, mask_threshold=0.0), "mask_threshold -0.5, not 0.0"),
    ],
)
def test_other_options_of_a_run_are_named_as_they_were_typed(
    tmp_path: Path, recipe: Recipe, named: str
) -> None:
    made, wanted = Origin(options=asdict(RECIPE)), Origin(options=asdict(recipe))
    with pytest.raises(OtherOptionsError) as caught:
        wanted.accepts(made.content(), tmp_path / "mini.safetensors")
    assert caught.value.named(_FLAGS).what == f"it was made with {named}"


def test_steps_in_the_state_of_a_network_are_its_option(tmp_path: Path) -> None:
    error = OtherOptionsError({"steps": (2, 9), "warm_up": (1, 2)}, tmp_path / "sharpmask.training")
    assert error.named(_FLAGS).what == "it was made with --sharpmask-steps 2, not 9"


def test_the_command_names_the_option_of_a_run_that_it_cannot_resume(
    tmp_path: Path, dataset: CocoDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder := tmp_path / "data").mkdir()
    (folder / "train").symlink_to(dataset.file.parent)
    words = ["train", "--dataset", str(folder), "--output", str(tmp_path / "run")]
    (tmp_path / "run").mkdir()
    cache = tmp_path / "run" / "windows-0"
    held_in, _ = dataset.split(0.2)
    trunk = FrozenTrunk(mini_train._begun(None, 0).deepmask.trunk, 16)
    build_cache(held_in, trunk, cache, CacheOptions(views_per_image=1), lambda *_: None)
    assert invoke([*words, "--views", "2"]) == 1
    assert "it was made with --views 1, not 2: " in capsys.readouterr().err


AFTER_THE_MAIN_THREAD = """
import sys, threading
from pathlib import Path
from foveate.datasets import CocoDataset
from foveate.datasets.splits import without_broken_images
from foveate.models import EfficientNetLite0
from foveate.training.mini.trunk import FrozenTrunk
from foveate.training.mini.window_cache import CacheOptions, build_cache

dataset, output = CocoDataset(Path(sys.argv[1])), Path(sys.argv[2])

def work():
    threading.main_thread().join()
    usable = without_broken_images(dataset, "images", lambda *_: None)
    trunk, options = FrozenTrunk(EfficientNetLite0(last_stride=16), 16), CacheOptions(views_per_image=1)
    print(len(usable), len(build_cache(usable, trunk, output, options, lambda *_: None).scores))

threading.Thread(target=work).start()
"""


def test_images_are_read_ahead_after_the_main_thread_has_ended(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    program = [sys.executable, "-W", "ignore", "-c", AFTER_THE_MAIN_THREAD]
    words = [*program, str(dataset.file.parent), str(tmp_path / "windows")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("4 4\n", "")
