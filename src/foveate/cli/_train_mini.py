# SPDX-License-Identifier: Apache-2.0
"""``foveate train`` of ``mini``: from its options to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from foveate.cli._console import print_line, show_progress
from foveate.cli._options import is_checkpoint
from foveate.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from foveate.datasets import CocoDataset, Splits
    from foveate.models.checkpoint import Cascade
    from foveate.training.mini.recipe import Recipe

# Share of the images that are held out if the data set has no validation part.
_HELD_OUT = 0.2
# Options by what a file of a run records, for errors; the rest of the recipe follows from them.
_FLAGS = {
    **{f"{name}.steps": f"--{name}-steps" for name in ("deepmask", "sharpmask", "multipathnet")},
    "views_per_image": "--views",
    "regions.images": "--regions",
    "seed": "--seed",
    "initial": "--init-from",
    "initial_share": "--initial-share",
}
# A run leaves at least one of these files next to its checkpoints.
_STATES = (
    *("mask_head.training", "deepmask.training", "sharpmask.training", "multipathnet.training"),
    "sharpmask.safetensors.origin.json",
)


def recipe_of(
    seed: int, steps: dict[str, int], views: int | None, regions: int, initial_share: float
) -> Callable[[int], Recipe]:
    """Return the recipe of mini as a function of the number of training images."""
    from dataclasses import replace

    from foveate.training.mini.recipe import Recipe

    if "deepmask" in steps:  # the mask head is trained on top for a tenth of its steps
        steps = {**steps, "mask_head": -(-steps["deepmask"] // 10)}

    def recipe(images: int) -> Recipe:
        sized = Recipe.sized(images).stepped(steps).seeded(seed)
        cache = sized.cache if views is None else replace(sized.cache, views_per_image=views)
        chosen = replace(sized.regions, images=regions)
        return replace(sized, cache=cache, regions=chosen, initial_share=initial_share)

    return recipe


def train_mini(
    datasets: list[Path],
    extra_datasets: list[Path],
    output: Path,
    recipe: Callable[[int], Recipe],
    init_from: Path | None,
) -> None:
    """Train mini, calibrate its scores, and print where its checkpoint is."""
    from foveate.datasets import find_splits
    from foveate.datasets.splits import require_classes, without_broken_images
    from foveate.system.files import check_writable
    from foveate.training.mini.score_calibration import calibrate
    from foveate.training.mini.train import train_cascade
    from foveate.training.mini.window_cache import require_objects
    from foveate.training.resume import OtherOptionsError, check_replaceable

    # Whatever can fail is checked before the first hour of work.
    check_writable(output / "mini.safetensors")
    for file, kind in (("deepmask", "deepmask"), ("sharpmask", "sharpmask"), ("mini", "sharpmask")):
        check_replaceable(f"{kind}-mini", _STATES, output / f"{file}.safetensors")
    initial = mini_of(init_from) if init_from else None
    train, validation = _same_classes([find_splits(one) for one in datasets])
    extra = [find_splits(one).train for one in extra_datasets]
    with show_progress() as progress:
        shown = [without_broken_images(one, "images", progress) for one in (*train, *extra)]
        train, extra = shown[: len(train)], shown[len(train) :]
        numbers = recipe(sum(len(one) for one in train))  # of the images that can be read
        for one in shown:
            require_objects(one, numbers.cache)
        if validation is None:
            train[0], validation = train[0].split(_HELD_OUT)
            print_line(
                f"{len(validation)} of {len(validation) + len(train[0])} images are held out to "
                "calibrate the scores: add a validation part to the data set to choose them",
                to_stderr=True,
            )
        else:
            validation = without_broken_images(validation, "held-out images", progress)
        require_classes(train)
        try:
            checkpoint = train_cascade(train, output, numbers, progress, extra, initial)
        except OtherOptionsError as error:
            raise error.named(_FLAGS) from error
        calibrate(checkpoint, validation, progress=progress)
    print_line(f"Checkpoint: {checkpoint}", to_stderr=True)
    print_line(f"Export it:  foveate export {checkpoint} --output my-bundle", to_stderr=True)


def _same_classes(splits: list[Splits]) -> tuple[list[CocoDataset], CocoDataset | None]:
    """Return all training parts, and the first validation part, with the first one's classes."""
    first, *others = splits
    names, whose = first.train.class_names, "the first data set"
    train = [first.train, *(one.train.with_classes(names, whose) for one in others)]
    held_out = [one.validation for one in splits if one.validation is not None]
    return train, held_out[0].with_classes(names, whose) if held_out else None


def mini_of(file: Path) -> Cascade:
    """Return the networks of a checkpoint or bundle of mini."""
    from foveate.bundle import Bundle
    from foveate.export.to_onnx.bundle_weights import exact_cascade_from_bundle
    from foveate.models.checkpoint import load_checkpoint

    if is_checkpoint(file):
        cascade = load_checkpoint(file)
    else:
        cascade = exact_cascade_from_bundle(Bundle.open(file))
    info = cascade.info
    found = (info.proposals, info.classifier or "multipathnet-mini")  # it may lack its classifier
    for name, expected in zip(found, ("sharpmask-mini", "multipathnet-mini"), strict=True):
        if name != expected:
            what = f"expected {expected} to start from, found {name}"
            raise ModelError(what, file=file, remedy="pass a checkpoint or a bundle of mini")
    return cascade
