# SPDX-License-Identifier: Apache-2.0
"""``foveate train``: train ``mini`` on two CPU cores, or a full-size network as published."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foveate.cli._console import print_line, show_progress
from foveate.cli._options import is_checkpoint, path_or_name
from foveate.errors import ModelError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from foveate.datasets import CocoDataset, Splits
    from foveate.models.checkpoint import Cascade
    from foveate.training.mini.recipe import Recipe

MINI = "mini"

# Share of the images that are held out if the data set has no validation part.
HELD_OUT = 0.2

_FULL_SIZE_ONLY = (
    *("trunk", "trunk_weights", "deepmask", "proposals", "validation_proposals", "size", "steps"),
    *("batch", "reproduce_original"),
)


def _mini_only(text: str, **details: Any) -> Any:
    return typer.Option(help=f"{text} (mini only).", **details)


def _full_size_only(text: str, **details: Any) -> Any:
    return typer.Option(help=f"{text} (full-size only).", **details)


_PATH_OR_NAME = {"parser": path_or_name, "metavar": "PATH"}


def command(
    *,
    dataset: Annotated[
        list[Path],
        typer.Option(
            help="Data set in the layout of COCO, CVAT, Roboflow or labelme; for mini repeatable, "
            "with the classes of the first one. Without a validation part, a fifth of the images "
            "of the first is held out."
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="Directory of the run; an interrupted run is resumed.")
    ],
    network: Annotated[
        str,
        typer.Option(
            help="mini: all three networks in turn, from cached features. Otherwise a full-size "
            "network, trained end to end as published: deepmask-resnet50, deepmask-vgg, "
            "sharpmask-resnet50, multipathnet-vgg16, multipathnet-resnet18, "
            "multipathnet-resnet50, fast-rcnn-vgg16; or with --trunk deepmask, sharpmask, "
            "multipathnet."
        ),
    ] = MINI,
    trunk: Annotated[
        str | None,
        _full_size_only("Backbone of timm: timm:NAME, such as timm:resnet18 or timm:convnext_tiny"),
    ] = None,
    trunk_weights: Annotated[
        str | None,
        _full_size_only(
            "Weights of the backbone: pretrained, which timm fetches, is the default; or random; "
            "or a file of its state dict",
            metavar="pretrained|random|FILE",
        ),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_name,
            metavar="PATH",
            help="Weights to start from. For mini: a checkpoint or bundle of mini; `--init-from "
            "mini` is the best way to train on few images. Full-size: a checkpoint of the same "
            "network.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    extra_dataset: Annotated[
        list[Path] | None,
        _mini_only(
            "Further data set, which only DeepMask and SharpMask are trained on; its classes are "
            "ignored, repeatable"
        ),
    ] = None,
    deepmask_steps: Annotated[
        int | None,
        _mini_only("DeepMask training steps; by default 4 per image, from 100 to 8000", min=1),
    ] = None,
    sharpmask_steps: Annotated[
        int | None,
        _mini_only("SharpMask training steps; by default 2.5 per image, from 100 to 5000", min=1),
    ] = None,
    multipathnet_steps: Annotated[
        int | None,
        _mini_only("MultiPathNet training steps; by default 1.25 per image, 100 to 2500", min=1),
    ] = None,
    views: Annotated[
        int | None,
        _mini_only("Views cached per image; by default 3, or more to have 120 in total", min=1),
    ] = None,
    regions: Annotated[
        int, _mini_only("Number of images whose proposals MultiPathNet is trained on", min=1)
    ] = 600,
    initial_share: Annotated[
        float,
        _mini_only(
            "Share of the weights of --init-from in the mean with the trained ones, which DeepMask "
            "and SharpMask become; lower it if there are many images",
            min=0.0,
            max=1.0,
        ),
    ] = 0.5,
    deepmask: Annotated[
        Path | None, _full_size_only("Checkpoint of the DeepMask that a SharpMask refines")
    ] = None,
    proposals: Annotated[
        Path | None,
        _full_size_only(
            "Boxes that a detector is trained on: COCO results, or a bundle that proposes them",
            **_PATH_OR_NAME,
        ),
    ] = None,
    validation_proposals: Annotated[
        Path | None,
        _full_size_only(
            "The same for the validation part; by default the bundle, if --proposals is one",
            **_PATH_OR_NAME,
        ),
    ] = None,
    steps: Annotated[
        int | None, _full_size_only("Training steps; by default as published", min=1)
    ] = None,
    batch: Annotated[
        int | None, _full_size_only("Samples per step, over all processes", min=1)
    ] = None,
    size: Annotated[
        list[str] | None,
        _full_size_only(
            "NAME=VALUE of the network's builder instead of the published one, such as km=64 or "
            "form=paper, repeatable"
        ),
    ] = None,
    reproduce_original: Annotated[
        bool,
        typer.Option(
            "--reproduce-original",
            help="Reproduce the quirks of the original Lua code (full-size only).",
        ),
    ] = False,
    device: Annotated[str, _full_size_only("auto, cpu or cuda")] = "auto",
    precision: Annotated[str, _full_size_only("auto, float32, bfloat16 or float16")] = "auto",
    workers: Annotated[int, _full_size_only("Processes that load samples", min=0)] = 2,
    checkpoint_every: Annotated[int, _full_size_only("Steps between two checkpoints", min=1)] = 500,
    validate_every: Annotated[int, _full_size_only("Steps between two validations", min=1)] = 2000,
) -> None:
    """Train mini on two CPU cores, or a full-size network on GPUs.

    For your own images: foveate train --dataset DIRECTORY --output run --init-from mini. For
    several GPUs: torchrun --nproc-per-node N -m foveate train --network ...
    """
    given = dict(locals())  # first, since it takes every local name
    if network != MINI:
        if len(dataset) > 1:
            what = f"expected one --dataset for {network}, got {len(dataset)}"
            raise OptionError(what, remedy="merge them into one data set")
        _train_full_size(given | {"dataset": dataset[0], "network": _on_trunk(network, trunk)})
        return
    # The others have a default other than None, so it is unknown whether they were given.
    wrong = [name for name in _FULL_SIZE_ONLY if given[name] not in (None, False)]
    if wrong:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in wrong)
        raise OptionError(f"mini takes no {names}", remedy="name a full-size --network")
    counts = {name: given[f"{name}_steps"] for name in ("deepmask", "sharpmask", "multipathnet")}
    given_counts = {name: count for name, count in counts.items() if count is not None}
    recipe = _recipe(seed, given_counts, views, regions, initial_share)
    _train_mini(dataset, extra_dataset or [], output, recipe, init_from)


def _on_trunk(network: str, trunk: str | None) -> str:
    """Return the name of a network on a trunk of timm, or of one with its own trunk as it is."""
    from foveate.models.build import ON_TIMM
    from foveate.models.timm_trunk import PREFIX

    example = f"such as {PREFIX}resnet18"
    if (trunk is not None) != (network in ON_TIMM):
        what = f"{network} {'needs a' if trunk is None else 'takes no other'} trunk"
        remedy = f"--trunk, {example}, is for {', '.join(ON_TIMM)}"
        raise OptionError(what, remedy=remedy)
    if trunk is None:
        return network
    if not trunk.removeprefix(PREFIX) or not trunk.startswith(PREFIX):
        raise OptionError(f"expected --trunk {PREFIX}NAME, got {trunk!r}", remedy=example)
    return f"{network}-{trunk}"


def _sizes(words: list[str]) -> dict[str, int | str]:
    """Return sizes written as NAME=VALUE; a value is a whole number, true, false or a word."""
    sizes: dict[str, int | str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise OptionError(f"expected --size NAME=VALUE, got {word!r}")
        named: dict[str, int | str] = {"true": True, "false": False}  # a bool is an int
        sizes[name] = int(value) if value.isdecimal() else named.get(value, value)
    return sizes


def _recipe(
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


def _train_mini(
    datasets: list[Path],
    extra_datasets: list[Path],
    output: Path,
    recipe: Callable[[int], Recipe],
    init_from: Path | None,
) -> None:
    from foveate.datasets import find_splits
    from foveate.datasets.splits import require_classes, without_broken_images
    from foveate.system.files import check_writable
    from foveate.training.mini.score_calibration import calibrate
    from foveate.training.mini.train import train_cascade
    from foveate.training.mini.window_cache import require_objects

    # Whatever can fail is checked before the first hour of work.
    check_writable(output / "mini.safetensors")
    initial = _mini(init_from) if init_from else None
    train, validation = _same_classes([find_splits(one) for one in datasets])
    extra = [find_splits(one).train for one in extra_datasets]
    with show_progress() as progress:
        shown = [without_broken_images(one, "images", progress) for one in (*train, *extra)]
        train, extra = shown[: len(train)], shown[len(train) :]
        numbers = recipe(sum(len(one) for one in train))  # of the images that can be read
        for one in shown:
            require_objects(one, numbers.cache)
        if validation is None:
            train[0], validation = train[0].split(HELD_OUT)
            print_line(
                f"{len(validation)} of {len(validation) + len(train[0])} images are held out to "
                "calibrate the scores: add a validation part to the data set to choose them",
                to_stderr=True,
            )
        else:
            validation = without_broken_images(validation, "held-out images", progress)
        require_classes(train)
        checkpoint = train_cascade(train, output, numbers, progress, extra, initial)
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


def _mini(file: Path) -> Cascade:
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


def _train_full_size(given: dict[str, Any]) -> None:
    """Train a full-size network; most options of the command are fields of ``OriginalOptions``."""
    from foveate.evaluation.legacy import LegacyOptions
    from foveate.training.original.run import OriginalOptions, run

    legacy = LegacyOptions.original() if given["reproduce_original"] else LegacyOptions()
    names = {one.name for one in fields(OriginalOptions)} & given.keys()
    options = OriginalOptions(
        **{name: given[name] for name in names}, sizes=_sizes(given["size"] or []), legacy=legacy
    )
    with show_progress() as progress:
        checkpoint = run(options, progress)
    if os.environ.get("RANK", "0") != "0":
        return  # of the processes of torchrun, only the first one prints
    print_line(f"Checkpoint: {checkpoint}", to_stderr=True)
    if options.best.exists():
        print_line(f"Best:       {options.best}", to_stderr=True)
    print_line(f"Curves:     tensorboard --logdir {options.output / 'board'}", to_stderr=True)
