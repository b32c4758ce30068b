# SPDX-License-Identifier: Apache-2.0
"""Small, damaged and changed data sets: what `mini` trains on, and what of a run is used again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.samples.training import write_dataset

from foveate.bundle import Bundle
from foveate.cli import invoke
from foveate.datasets import CocoDataset
from foveate.datasets.splits import without_broken_images
from foveate.errors import DataError, InputError, ModelError
from foveate.export.bundle_export import ExportOptions, export_bundle
from foveate.export.precision import PrecisionOptions
from foveate.export.to_onnx.bundle_weights import cascade_from_bundle
from foveate.models import EfficientNetLite0, SharpMask
from foveate.models.checkpoint import (
    Cascade,
    CascadeInfo,
    build_cascade,
    load_checkpoint,
    save_checkpoint,
)
from foveate.models.networks import multipathnet_mini, sharpmask_mini
from foveate.training.mini import train as mini_train
from foveate.training.mini.recipe import Recipe
from foveate.training.mini.regions import (
    RegionOptions,
    build_regions,
    delta_statistics,
    multipathnet_step,
)
from foveate.training.mini.train import train_cascade, train_proposals
from foveate.training.mini.trunk import FrozenTrunk
from foveate.training.mini.window_cache import CacheOptions, build_cache, require_objects
from foveate.training.mini.window_steps import deepmask_step, sharpmask_step
from foveate.training.resume import Origin, is_current, stamp

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Records = list[dict[str, Any]]


def silent(*_: object) -> None:
    """Report nothing."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images with a disc and a square each."""
    return write_dataset(tmp_path / "data") / "train"


def change(folder: Path, edit: Callable[[Records], object], key: str = "annotations") -> None:
    """Edit a list of a data set's annotations in place."""
    file = folder / "annotations.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    edit(content[key])
    file.write_text(json.dumps(content), encoding="utf-8")


def shift_a_box(annotations: Records) -> None:
    annotations[0]["bbox"][0] += 1


def rename_a_class(categories: Records) -> None:
    categories[0]["name"] = "ball"


class Blind:
    """A trunk that sees nothing."""

    digest = "0"

    def __call__(self, image: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
        height, width = image.shape[:2]
        channels = EfficientNetLite0(last_stride=32).channels
        return {s: np.ones((c, height // s, width // s), np.float32) for s, c in channels.items()}


TRUNK = cast("FrozenTrunk", Blind())


def test_one_view_of_one_image_is_enough_for_a_step_of_each_network(
    folder: Path, tmp_path: Path
) -> None:
    dataset = CocoDataset(folder).of_images(np.array([0]))
    cache = build_cache(dataset, TRUNK, tmp_path / "w", CacheOptions(views_per_image=2), silent)
    network = sharpmask_mini()
    options = RegionOptions(short_side=64, long_side=96)
    no_boxes = np.zeros((0, 4), np.float32)
    manifest = Bundle.open("mini").manifest
    regions = build_regions(
        dataset, TRUNK, lambda _: no_boxes, manifest, tmp_path / "r", Origin(), options, silent
    )
    steps = (
        deepmask_step(network.deepmask, cache),
        sharpmask_step(network, cache),
        multipathnet_step(multipathnet_mini(2), regions, delta_statistics(regions)),
    )
    for step in steps:
        losses = step(np.random.default_rng(0))
        assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("key", ["annotations", "categories", "images"])
def test_windows_of_changed_data_are_made_anew_and_others_are_kept(
    key: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = CacheOptions(views_per_image=1)
    calls: list[int] = []

    def build() -> None:
        build_cache(CocoDataset(folder), TRUNK, tmp_path / "w", options, lambda *_: calls.append(1))

    build()
    made = len(calls)
    build()
    assert len(calls) == made
    assert not caplog.records
    if key == "images":
        os.utime(next((folder / "images").iterdir()), ns=(1, 1))
    else:
        change(folder, shift_a_box if key == "annotations" else rename_a_class, key)
    build()
    assert len(calls) == 2 * made
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("the annotations or images changed since")
    assert told.endswith("w was made: it and its successors are made again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "w", "w.origin.json"]


def test_regions_go_on_where_they_stopped_unless_the_data_changed(
    folder: Path, tmp_path: Path
) -> None:
    seen: list[int] = []

    def propose(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        if len(seen) == 2:
            seen.append(0)
            raise KeyboardInterrupt
        seen.append(len(image))
        return np.zeros((0, 4), np.float32)

    def build() -> None:
        dataset = CocoDataset(folder)
        options = RegionOptions(short_side=64, long_side=96)
        origin = Origin(inputs={"the annotations or images": dataset.digest})
        manifest = Bundle.open("mini").manifest
        build_regions(dataset, TRUNK, propose, manifest, tmp_path / "r", origin, options, silent)

    with pytest.raises(KeyboardInterrupt):
        build()
    build()
    assert len(seen) == 3 + 2
    change(folder, shift_a_box)
    build()
    assert len(seen) == 3 + 2 + 4


def test_what_is_kept_says_what_changed_and_refuses_other_options(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "kept"
    file.touch()
    old = Origin(inputs={"the images": 1, "the windows": (1, 2)}, options={"steps": 1})
    stamp(file, old)
    assert is_current(file, old)
    with pytest.raises(
        ModelError, match=r"made with steps 1, not 2.*: delete it to start again, r"
    ):
        is_current(file, replace(old, options={"steps": 2}))
    new = Origin(inputs={"the images": 2, "the windows": (1, 2)}, options={"steps": 2})
    assert not is_current(file, new)  # of more images more steps follow
    assert "the images changed since" in caplog.text
    assert not is_current(file, old)  # what was made of other inputs may stand there by now
    assert "the inputs of" in caplog.text


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Training without the work; lists the classes of each."""
    trained: list[str] = []
    torch.manual_seed(0)

    def proposals(*_: object) -> Cascade:
        return build_cascade(CascadeInfo(proposals="sharpmask-mini"))

    def classifier(datasets: list[CocoDataset], given: Cascade, *_: object) -> Cascade:
        names = datasets[0].class_names
        trained.append(" ".join(names))
        info = replace(given.info, classifier="multipathnet-mini", class_names=names)
        return replace(given, info=info, classifier=multipathnet_mini(len(names)))

    monkeypatch.setattr(mini_train, "train_proposals", proposals)
    monkeypatch.setattr(mini_train, "train_classifier", classifier)
    return trained


def test_a_finished_run_is_returned_for_its_own_data_only(
    folder: Path, tmp_path: Path, quick: list[str]
) -> None:
    for _ in range(2):
        result = train_cascade([CocoDataset(folder)], tmp_path / "run", Recipe(), silent)
    assert quick == ["disc square"]
    change(folder, rename_a_class, "categories")
    train_cascade([CocoDataset(folder)], tmp_path / "run", Recipe(), silent)
    assert quick == ["disc square", "ball square"]
    assert load_checkpoint(result).info.class_names == ("ball", "square")


def test_a_finished_run_is_not_replaced_by_one_with_other_options(
    folder: Path, tmp_path: Path, quick: list[str]
) -> None:
    train_cascade([CocoDataset(folder)], tmp_path / "run", Recipe(), silent)
    for recipe, difference in (
        (Recipe().stepped({"sharpmask": 7}), "sharpmask.steps 5000, not 7, sharpmask.warm_up 100"),
        (Recipe(cache=CacheOptions(views_per_image=4)), "cache.views_per_image 3, not 4: "),
        (Recipe(regions=RegionOptions(images=6)), "regions.images 600, not 6: "),
    ):
        with pytest.raises(ModelError, match=f"it was made with {difference}"):
            train_cascade([CocoDataset(folder)], tmp_path / "run", recipe, silent)
    assert len(quick) == 1


def test_windows_of_other_options_are_refused(folder: Path, tmp_path: Path) -> None:
    build_cache(CocoDataset(folder), TRUNK, tmp_path / "w", CacheOptions(), silent)
    with pytest.raises(ModelError, match="made with seed 0, not 1: .*w: delete it to start again"):
        build_cache(CocoDataset(folder), TRUNK, tmp_path / "w", CacheOptions(seed=1), silent)


def test_a_run_keeps_the_calibration_of_what_it_began_with_and_refuses_other_weights(
    folder: Path, tmp_path: Path, quick: list[str]
) -> None:
    mini = cascade_from_bundle(Bundle.open("mini"))
    datasets, output = [CocoDataset(folder)], tmp_path / "run"
    result = train_cascade(datasets, output, Recipe(), silent, initial=mini)
    assert load_checkpoint(result).info.calibration == mini.info.calibration
    assert mini.info.calibration != CascadeInfo().calibration
    other = build_cascade(mini.info)
    for initial in (other, None):
        with pytest.raises(ModelError, match="made with initial '.*resume with the same options"):
            train_cascade(datasets, output, Recipe(), silent, initial=initial)
    assert len(quick) == 1


def test_the_whole_share_of_the_start_leaves_only_the_mask_head_to_train(
    folder: Path, tmp_path: Path
) -> None:
    initial = cascade_from_bundle(Bundle.open("mini")).proposals
    assert isinstance(initial, SharpMask)
    before = {name: value.clone() for name, value in initial.state_dict().items()}
    recipe = Recipe(cache=CacheOptions(views_per_image=2), initial_share=1.0)
    recipe = recipe.stepped({"deepmask": 2, "sharpmask": 2, "mask_head": 1})
    trained = train_proposals([CocoDataset(folder)], tmp_path / "run", recipe, silent, initial)
    assert trained.info.proposals_sizes == {"vector": 64, "border": 48}  # as in the bundle
    after = trained.proposals.state_dict()
    head = [name for name in after if name.startswith("deepmask.mask.")]
    assert all(torch.equal(after[name], before[name]) for name in before if name not in head)
    assert not all(torch.equal(after[name], before[name]) for name in head)
    assert not [*(tmp_path / "run").glob("*mask.training")]


def test_a_classifier_goes_on_from_one_of_other_classes_but_for_its_heads() -> None:
    given = build_cascade(cascade_from_bundle(Bundle.open("mini")).info)
    names = given.info.class_names
    assert given.classifier is not None
    for class_names, same in ((names, True), (names[::-1], False), (("box", "disc"), False)):
        network = multipathnet_mini(len(class_names))
        mini_train._start_from(network, given, class_names)
        own, other = network.state_dict(), given.classifier.state_dict()
        assert torch.equal(own["box_tower.mix.weight"], other["box_tower.mix.weight"])
        assert torch.equal(own["class_heads.0.weight"], other["class_heads.0.weight"]) == same


def test_fewer_images_make_fewer_steps_and_more_views() -> None:
    few, some, many = (Recipe.sized(images) for images in (6, 500, 5000))
    assert (few.deepmask.steps, few.mask_head.steps, few.cache.views_per_image) == (100, 20, 20)
    assert few.deepmask.warm_up == 13
    assert (some.deepmask.steps, some.sharpmask.steps, some.multipathnet.steps) == (2000, 1250, 625)
    assert many == Recipe()


def test_broken_images_are_left_out_counted_and_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = folder / "images" / "2.png"
    file.write_bytes(file.read_bytes()[:700])
    change(folder, lambda images: images[2].update(height=201), "images")
    left = without_broken_images(CocoDataset(folder), "images", silent)
    assert left.annotations.image_ids.tolist() == [1, 4]
    told = caplog.records[-1].getMessage()
    assert told.startswith("2 of 4 images are left out")
    assert "2.png" in told
    assert "300 x 200 pixels" in told
    for record in (folder / "images").iterdir():
        record.write_bytes(b"")
    with pytest.raises(DataError, match="none of 4 images can be used: .*1.png"):
        without_broken_images(CocoDataset(folder), "images", silent)


def all_crowds(annotations: Records) -> None:
    for annotation in annotations:
        annotation["iscrowd"] = 1


def all_tiny(annotations: Records) -> None:
    for annotation in annotations:
        annotation.update(bbox=[5, 5, 8, 8], segmentation=[[5, 5, 13, 5, 13, 13, 5, 13]])


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (Records.clear, "of 0 annotated objects there is none"),
        (all_crowds, "of 8 annotated objects 8 are crowds"),
        (all_tiny, "of 8 annotated objects 8 are smaller than 20 pixels"),
    ],
)
def test_a_data_set_without_a_usable_object_ends_before_any_work(
    edit: Callable[[Records], object],
    found: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(folder, edit)
    with pytest.raises(DataError, match=f"{found}.*: annotate single objects"):
        require_objects(CocoDataset(folder), CacheOptions())
    words = ["train", "--dataset", str(folder), "--output", str(tmp_path / "run")]
    assert invoke(words) == 1
    assert found in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_data_set_without_a_validation_part_has_one_made_and_told(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts: list[list[int]] = []

    def train(datasets: list[CocoDataset], output: Path, *_: object) -> Path:
        parts.append(datasets[0].annotations.image_ids.tolist())
        return output

    def calibrate(_: Path, dataset: CocoDataset, **__: object) -> None:
        parts.append(dataset.annotations.image_ids.tolist())

    monkeypatch.setattr("foveate.training.mini.train.train_cascade", train)
    monkeypatch.setattr("foveate.training.mini.score_calibration.calibrate", calibrate)
    words = ["train", "--dataset", str(folder), "--output", str(tmp_path / "run")]
    assert invoke(words) == 0
    assert invoke(words) == 0
    assert "1 of 4 images are held out" in capsys.readouterr().err
    assert parts[:2] == parts[2:]
    assert sorted(parts[0] + parts[1]) == [1, 2, 3, 4]


def test_an_output_that_cannot_be_written_is_found_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = ["train", "--dataset", "nowhere", "--output", str(tmp_path / "file" / "run")]
    assert invoke(words) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_detector_checkpoint_of_another_size_is_no_start(tmp_path: Path) -> None:
    network = build_cascade(CascadeInfo(proposals="deepmask-mini"))
    assert not isinstance(network.proposals, SharpMask)
    save_checkpoint(tmp_path / "d.safetensors", network)
    words = ["train", "--dataset", "nowhere", "--output", str(tmp_path / "run")]
    assert invoke([*words, "--init-from", str(tmp_path / "d.safetensors")]) == 1


def test_an_image_to_calibrate_with_is_read_before_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    monkeypatch.setattr("foveate.export.bundle_export.cascade_stages", None)  # would be called
    asked = PrecisionOptions.parse(
        "int8", calibration=[tmp_path], method="percentile", max_quantization_error=0.01
    )
    cascade = build_cascade(CascadeInfo(proposals="sharpmask-mini"))
    with pytest.raises(InputError, match=r"broken\.jpg"):
        export_bundle(cascade, tmp_path / "bundle", ExportOptions(precision=asked))
