# SPDX-License-Identifier: Apache-2.0
"""``foveate train``: train ``mini`` on two CPU cores, or a full-size network as published."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperOption

from foveate.cli._console import print_line, show_progress
from foveate.cli._options import given_options, path_or_name
from foveate.errors import OptionError

MINI = "mini"

# Options by what a file of a full-size run records, for errors.
_FLAGS = {
    **{name: f"--{name}" for name in ("network", "seed", "precision", "batch", "deepmask")},
    "epoch_steps": "--steps",
    "trunk": "--trunk-weights",
    "initial": "--init-from",
}
# Groups of options, of which a network takes one.
_OF_MINI, _OF_FULL_SIZE = "mini only", "full-size only"


def _mini_only(text: str, **details: Any) -> Any:
    return typer.Option(help=f"{text} ({_OF_MINI}).", rich_help_panel=_OF_MINI, **details)


def _full_size_only(text: str, *names: str, **details: Any) -> Any:
    text = f"{text} ({_OF_FULL_SIZE})."
    return typer.Option(*names, help=text, rich_help_panel=_OF_FULL_SIZE, **details)


_PATH_OR_NAME = {"parser": path_or_name, "metavar": "PATH"}


def command(
    context: typer.Context,
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
        _full_size_only("Reproduce the quirks of the original Lua code", "--reproduce-original"),
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
    _refuse_options_of_others(context, network)
    if network != MINI:
        if len(dataset) > 1:
            what = f"expected one --dataset for {network}, got {len(dataset)}"
            raise OptionError(what, remedy="merge them into one data set")
        _train_full_size(given | {"dataset": dataset[0], "network": _on_trunk(network, trunk)})
        return
    from foveate.cli._train_mini import recipe_of, train_mini

    counts = {name: given[f"{name}_steps"] for name in ("deepmask", "sharpmask", "multipathnet")}
    given_counts = {name: count for name, count in counts.items() if count is not None}
    recipe = recipe_of(seed, given_counts, views, regions, initial_share)
    train_mini(dataset, extra_dataset or [], output, recipe, init_from)


def _refuse_options_of_others(context: typer.Context, network: str) -> None:
    """Refuse the given options that the chosen kind of network would ignore."""
    group, remedy = _OF_FULL_SIZE, "name a full-size --network"
    if network != MINI:
        group, remedy = _OF_MINI, "omit what belongs to mini"
    options = [one for one in context.command.params if isinstance(one, TyperOption)]
    others = {one.name for one in options if one.rich_help_panel == group}
    if wrong := given_options(context, others):
        raise OptionError(f"{network} takes no {', '.join(wrong)}", remedy=remedy)
    if context.params["init_from"] is None and given_options(context, {"initial_share"}):
        what = "--initial-share is a share of the weights of --init-from, which is missing"
        raise OptionError(what, remedy="pass both, or omit both")


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


def _train_full_size(given: dict[str, Any]) -> None:
    """Train a full-size network; most options of the command are fields of ``OriginalOptions``."""
    from foveate.evaluation.legacy import LegacyOptions
    from foveate.training.original.run import OriginalOptions, run
    from foveate.training.resume import OtherOptionsError

    legacy = LegacyOptions.original() if given["reproduce_original"] else LegacyOptions()
    names = {one.name for one in fields(OriginalOptions)} & given.keys()
    options = OriginalOptions(
        **{name: given[name] for name in names}, sizes=_sizes(given["size"] or []), legacy=legacy
    )
    try:
        with show_progress() as progress:
            checkpoint = run(options, progress)
    except OtherOptionsError as error:
        raise error.named(_FLAGS) from error
    if os.environ.get("RANK", "0") != "0":
        return  # of the processes of torchrun, only the first one prints
    print_line(f"Checkpoint: {checkpoint}", to_stderr=True)
    if options.best.exists():
        print_line(f"Best:       {options.best}", to_stderr=True)
    print_line(f"Curves:     tensorboard --logdir {options.output / 'board'}", to_stderr=True)
