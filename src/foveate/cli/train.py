# SPDX-License-Identifier: Apache-2.0
"""`foveate train`: a `mini` cascade on two CPU cores, or a full-size network as it was published."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli._given import is_checkpoint, path_or_name
from foveate.errors import ModelError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from foveate.models.checkpoint import Cascade
    from foveate.training.mini.recipe import Recipe
    from foveate.training.original.run import RunOptions

MINI = "mini"

HELD_OUT = 0.2
"""Share of the images that are held out where the data set has no validation part."""


def command(
    *,
    dataset: Annotated[
        Path,
        typer.Option(
            help="A data set, as COCO, CVAT, Roboflow or labelme lay it out (docs/how-to/data.md). "
            "Without a validation part, a fifth of its images is held out."
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="Folder of the run; an interrupted run continues where it was.")
    ],
    network: Annotated[
        str,
        typer.Option(
            help="mini: all three networks in turn, from cached features. Otherwise a full-size "
            "network, trained end to end as published: deepmask-resnet50, deepmask-vgg, "
            "sharpmask-resnet50, multipathnet-vgg16, multipathnet-resnet18, "
            "multipathnet-resnet50, fast-rcnn-vgg16."
        ),
    ] = MINI,
    init_from: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_name,
            metavar="PATH",
            help="Weights to start from. For mini a checkpoint or bundle of mini, and `--init-from "
            "mini` is the best way to train on few images; full-size: a checkpoint of the same "
            "network.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes every random choice.")] = 0,
    extra_dataset: Annotated[
        Path | None,
        typer.Option(
            help="Another data set, from which DeepMask and SharpMask learn too; its classes are "
            "not read (mini only)."
        ),
    ] = None,
    deepmask_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="DeepMask training steps; by default 4 for each training image, from 100 to 8000 "
            "(mini only).",
        ),
    ] = None,
    sharpmask_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="SharpMask training steps; by default 2.5 an image, from 100 to 5000 (mini only).",
        ),
    ] = None,
    multipathnet_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="MultiPathNet training steps; by default 1.25 an image, from 100 to 2500 (mini "
            "only).",
        ),
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Views cached of every image; by default 3, or as many as make 120 of all images "
            "(mini only).",
        ),
    ] = None,
    regions: Annotated[
        int,
        typer.Option(
            min=1, help="Number of images whose proposals MultiPathNet is trained on (mini only)."
        ),
    ] = 600,
    deepmask: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of the DeepMask that a SharpMask refines (full-size only)."),
    ] = None,
    proposals: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_name,
            metavar="PATH",
            help="Boxes that a detector is trained on: COCO results, or a bundle that proposes "
            "them (full-size only).",
        ),
    ] = None,
    validation_proposals: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_name,
            metavar="PATH",
            help="The same for the validation part; by default the bundle, if --proposals is one "
            "(full-size only).",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Training steps; by default as published (full-size only)."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Samples in a step, over all processes (full-size only)."),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE of the network's builder in place of the published one, such as km=64 "
            "or form=paper; may be given several times (full-size only)."
        ),
    ] = None,
    reproduce_original: Annotated[
        bool,
        typer.Option(
            "--reproduce-original",
            help="Reproduce the quirks of the released Lua code (full-size only).",
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda (full-size only).")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, float32, bfloat16 or float16 (full-size only).")
    ] = "auto",
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that load samples (full-size only).")
    ] = 2,
    checkpoint_every: Annotated[
        int, typer.Option(min=1, help="Steps between two saved states (full-size only).")
    ] = 500,
    validate_every: Annotated[
        int, typer.Option(min=1, help="Steps between two validations (full-size only).")
    ] = 2000,
) -> None:
    """Train mini on two CPU cores, or a full-size network on GPUs.

    For your own images: foveate train --dataset FOLDER --output run --init-from mini
    (docs/tutorial/train-your-own.md). For several GPUs: torchrun --nproc-per-node N -m foveate train
    --network ...
    """
    if network == MINI:
        given = {
            "--deepmask": deepmask,
            "--proposals": proposals,
            "--validation-proposals": validation_proposals,
            "--size": size,
            "--steps": steps,
            "--batch": batch,
            "--reproduce-original": reproduce_original or None,
        }
        _refuse(*(name for name, value in given.items() if value is not None))
        lengths = {
            "deepmask": deepmask_steps,
            "sharpmask": sharpmask_steps,
            "multipathnet": multipathnet_steps,
        }
        chosen = {name: value for name, value in lengths.items() if value is not None}
        _train_mini(
            dataset, extra_dataset, output, _recipe(seed, chosen, views, regions), init_from
        )
        return
    from foveate.evaluation.legacy import LegacyOptions
    from foveate.training.original.run import RunOptions

    _train_published(
        RunOptions(
            network=network,
            dataset=dataset,
            output=output,
            sizes=_sizes(size or []),
            init_from=init_from,
            deepmask=deepmask,
            proposals=proposals,
            validation_proposals=validation_proposals,
            steps=steps,
            batch=batch,
            legacy=LegacyOptions.original() if reproduce_original else LegacyOptions(),
            device=device,
            precision=precision,
            workers=workers,
            checkpoint_every=checkpoint_every,
            validate_every=validate_every,
            seed=seed,
        )
    )


def _refuse(*wrong: str) -> None:
    if wrong:
        raise OptionError(f"mini takes no {', '.join(wrong)}", remedy="name a full-size --network")


def _sizes(words: list[str]) -> dict[str, int | str]:
    """Parse NAME=VALUE; a value is a whole number, true, false, or a word."""
    sizes: dict[str, int | str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise OptionError(f"expected --size NAME=VALUE, found {word!r}")
        named: dict[str, int | str] = {"true": True, "false": False}
        sizes[name] = int(value) if value.isdecimal() else named.get(value, value)
    return sizes


def _recipe(
    seed: int, steps: dict[str, int], views: int | None, regions: int
) -> Callable[[int], Recipe]:
    """Give the recipe of mini by the number of training images."""
    from dataclasses import replace

    from foveate.training.mini.recipe import Recipe

    if "deepmask" in steps:
        steps = {**steps, "mask_head": -(-steps["deepmask"] // 10)}

    def recipe(images: int) -> Recipe:
        sized = Recipe.sized(images).stepped(steps).seeded(seed)
        cache = sized.cache if views is None else replace(sized.cache, views_per_image=views)
        return replace(sized, cache=cache, regions=replace(sized.regions, images=regions))

    return recipe


def _train_mini(
    dataset: Path,
    extra_dataset: Path | None,
    output: Path,
    recipe: Callable[[int], Recipe],
    init_from: Path | None,
) -> None:
    from foveate.cli._console import progress, say
    from foveate.datasets import find_splits
    from foveate.system.files import check_writable
    from foveate.training.mini.calibration import calibrate
    from foveate.training.mini.recipe import train_cascade
    from foveate.training.usable import require_objects, without_broken_images

    # All that can fail is tried before the first hour of work.
    check_writable(output / "mini.safetensors")
    initial = _mini(init_from) if init_from else None
    splits = find_splits(dataset)
    train, validation = splits.train, splits.validation
    more = [find_splits(extra_dataset).train] if extra_dataset else []
    with progress() as advance:
        train, *more = (
            without_broken_images(one, partial(advance, "images")) for one in (train, *more)
        )
        numbers = recipe(len(train))
        for one in (train, *more):
            require_objects(one, numbers.cache)
        if validation is None:
            train, validation = train.split(HELD_OUT)
            say(
                f"{len(validation)} of {len(validation) + len(train)} images are held out to "
                "calibrate scores on: give a validation part to choose them",
                aside=True,
            )
        else:
            validation = without_broken_images(validation, partial(advance, "held-out images"))
        checkpoint = train_cascade(train, output, numbers, advance, more, initial)
        calibrate(checkpoint, validation, progress=partial(advance, "calibration"))
    say(f"Checkpoint: {checkpoint}", aside=True)
    say(f"Export it:  foveate export {checkpoint} --output my-bundle", aside=True)


def _mini(file: Path) -> Cascade:
    """Read a `mini` from a checkpoint, or from a bundle by path or name."""
    from foveate.bundle import Bundle
    from foveate.export.execution.bundle_weights import exact_cascade_from_bundle
    from foveate.models.checkpoint import load_checkpoint
    from foveate.models.sharpmask import SharpMask

    if is_checkpoint(file):
        cascade = load_checkpoint(file)
    else:
        cascade = exact_cascade_from_bundle(Bundle.open(file))
    if cascade.info.proposals != "sharpmask-mini" or not isinstance(cascade.proposals, SharpMask):
        raise ModelError(
            f"expected sharpmask-mini to start from, found {cascade.info.proposals}",
            file=file,
            remedy="give a checkpoint or a bundle of mini",
        )
    if cascade.info.classifier not in (None, "multipathnet-mini"):
        raise ModelError(
            f"expected multipathnet-mini to start from, found {cascade.info.classifier}",
            file=file,
            remedy="give a checkpoint or a bundle of mini",
        )
    return cascade


def _train_published(options: RunOptions) -> None:
    from foveate.cli._console import progress, say
    from foveate.training.original.run import run

    with progress() as advance:
        checkpoint = run(options, advance)
    if os.environ.get("RANK", "0") != "0":
        return  # of the processes of torchrun, the first one speaks
    say(f"Checkpoint: {checkpoint}", aside=True)
    if options.best.exists():
        say(f"Best:       {options.best}", aside=True)
    say(f"Curves:     tensorboard --logdir {options.output / 'board'}", aside=True)
