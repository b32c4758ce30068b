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
    from foveate.models.sharpmask import SharpMask
    from foveate.training.published.run import RunOptions
    from foveate.training.recipe import Recipe

__all__ = ["command"]

MINI = "mini"


def command(
    *,
    dataset: Annotated[
        Path,
        typer.Option(
            help="A COCO-format data set: `train/` and `validation/`, as compose writes; or, with "
            "--network, as COCO is laid out."
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="Directory of the run; an interrupted run goes on where it was.")
    ],
    network: Annotated[
        str,
        typer.Option(
            help="mini: all three networks in turn, from cached features. Else one network, end to "
            "end as published: deepmask-resnet50, deepmask-vgg, sharpmask-resnet50, "
            "multipathnet-vgg16, multipathnet-resnet18, multipathnet-resnet50, fast-rcnn-vgg16."
        ),
    ] = MINI,
    things: Annotated[
        Path | None,
        typer.Option(
            help="Of mini: another data set, from which DeepMask and SharpMask learn too; its "
            "classes are not read."
        ),
    ] = None,
    deepmask: Annotated[
        Path | None, typer.Option(help="Trained DeepMask, for a SharpMask.")
    ] = None,
    proposals: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_name,
            metavar="PATH",
            help="For a detector: a .json file of COCO results, or a bundle.",
        ),
    ] = None,
    validation_proposals: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_name,
            metavar="PATH",
            help="The same for the held-out pictures; by default the bundle, if it is one.",
        ),
    ] = None,
    initial: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_name,
            metavar="PATH",
            help="Checkpoint of the same network to start from; of mini a bundle or checkpoint, from "
            "which DeepMask and SharpMask go on, and end as the mean of before and after.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Optimiser steps; by default as published (of mini, see below)."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Samples a step, over all processes.")
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE of the network's builder in place of the published one, such as km=64 "
            "or form=paper; may be given several times."
        ),
    ] = None,
    as_released: Annotated[
        bool, typer.Option("--as-released", help="With the quirks of the released Lua code.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that draw samples.")] = 2,
    checkpoint_every: Annotated[
        int, typer.Option(min=1, help="Steps between two states that a run can go on from.")
    ] = 500,
    validate_every: Annotated[
        int, typer.Option(min=1, help="Steps between two looks at the held-out pictures.")
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Fixes every draw.")] = 0,
    deepmask_steps: Annotated[int, typer.Option(min=1, help="Of mini.")] = 8_000,
    sharpmask_steps: Annotated[int, typer.Option(min=1, help="Of mini.")] = 5_000,
    multipathnet_steps: Annotated[int, typer.Option(min=1, help="Of mini.")] = 2_500,
    views: Annotated[int, typer.Option(min=1, help="Of mini: views cached of every picture.")] = 3,
    regions: Annotated[
        int, typer.Option(min=1, help="Of mini: pictures whose proposals MultiPathNet trains on.")
    ] = 600,
) -> None:
    """Train the networks.

    For several GPUs: torchrun --nproc-per-node N -m foveate train --network ...
    """
    if network == MINI:
        given = {
            "--deepmask": deepmask,
            "--proposals": proposals,
            "--validation-proposals": validation_proposals,
            "--size": size,
            "--steps": steps,
            "--batch": batch,
            "--as-released": as_released or None,
        }
        _refuse(*(name for name, value in given.items() if value is not None))
        lengths = (deepmask_steps, sharpmask_steps, multipathnet_steps)
        recipe = _recipe(seed, lengths, views=views, regions=regions)
        _train_mini(dataset, things, output, recipe, initial)
        return
    from foveate.training.legacy import LegacyOptions
    from foveate.training.published.run import RunOptions

    _train_published(
        RunOptions(
            network=network,
            dataset=dataset,
            output=output,
            sizes=_sizes(size or []),
            initial=initial,
            deepmask=deepmask,
            proposals=proposals,
            validation_proposals=validation_proposals,
            steps=steps,
            batch=batch,
            legacy=LegacyOptions.released() if as_released else LegacyOptions(),
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


def _recipe(seed: int, lengths: tuple[int, int, int], *, views: int, regions: int) -> Recipe:
    """Give the recipe of mini with the steps of its three networks."""
    from dataclasses import replace

    from foveate.training.recipe import Recipe

    recipe = Recipe().seeded(seed)
    deepmask, sharpmask, multipathnet = lengths
    return replace(
        recipe,
        cache=replace(recipe.cache, views_per_picture=views),
        deepmask=replace(recipe.deepmask, steps=deepmask),
        sharpmask=replace(recipe.sharpmask, steps=sharpmask),
        multipathnet=replace(recipe.multipathnet, steps=multipathnet),
        regions=replace(recipe.regions, pictures=regions),
    )


def _train_mini(
    dataset: Path, things: Path | None, output: Path, recipe: Recipe, initial: Path | None
) -> None:
    from foveate.cli._console import progress, say
    from foveate.training.calibration import calibrate
    from foveate.training.dataset import CocoDataset
    from foveate.training.recipe import train_cascade

    start = _proposals_of(initial) if initial else None
    composed = CocoDataset(dataset / "train")
    more = [CocoDataset(things / "train")] if things else []
    with progress() as advance:
        checkpoint = train_cascade(composed, output, recipe, advance, more, start)
        calibrate(
            checkpoint,
            CocoDataset(dataset / "validation"),
            progress=partial(advance, "calibration"),
        )
    say(f"Checkpoint: {checkpoint}", aside=True)
    say(f"Export it:  foveate export {checkpoint} --output my-bundle", aside=True)


def _proposals_of(file: Path) -> SharpMask:
    """Read DeepMask and SharpMask of a checkpoint, or of a bundle by path or name."""
    from foveate.bundle import Bundle
    from foveate.export.bundle_weights import exact_cascade_from_bundle
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
    return cascade.proposals


def _train_published(options: RunOptions) -> None:
    from foveate.cli._console import progress, say
    from foveate.training.published.run import run

    with progress() as advance:
        checkpoint = run(options, advance)
    if os.environ.get("RANK", "0") != "0":
        return  # of the processes of torchrun, the first one speaks
    say(f"Checkpoint: {checkpoint}", aside=True)
    if options.best.exists():
        say(f"Best:       {options.best}", aside=True)
    say(f"Curves:     tensorboard --logdir {options.output / 'board'}", aside=True)
