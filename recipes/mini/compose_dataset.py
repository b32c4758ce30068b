# SPDX-License-Identifier: Apache-2.0
r"""Compose a COCO-format data set of cut-outs and backgrounds, with exact masks.

::

    python recipes/mini/compose_dataset.py --cutouts DIRECTORY --backgrounds DIRECTORY \
        --output DIRECTORY
"""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from compose import (
    Composition,
    FixedSet,
    Sources,
    training_options,
    validation_options,
    write_dataset,
)
from foveate.cli._console import print_line, show_progress


class Preset(StrEnum):
    """Names of the options of a composition."""

    TRAINING = "training"
    VALIDATION = "validation"


def command(
    cutouts: Annotated[
        Path,
        typer.Option(
            help="Cut-outs with an alpha channel: a directory that holds one directory per class, "
            "or a .csv list with the columns path, class, family and split."
        ),
    ],
    backgrounds: Annotated[
        Path, typer.Option(help="Images without objects: a directory, or a .csv list of paths.")
    ],
    output: Annotated[
        Path, typer.Option(help="The data set: a directory that does not exist yet.")
    ],
    *,
    packages: Annotated[
        Path | None,
        typer.Option(help="Root of the paths of a list; by default the directory of the list."),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="train or validation: use this part only. Lists state it; directories are "
            "split by families of similar images, a quarter of them for validation."
        ),
    ] = "",
    preset: Annotated[
        Preset,
        typer.Option(
            help="Strength of the changes: wide ranges for training, mild ones for validation."
        ),
    ] = Preset.TRAINING,
    images: Annotated[int, typer.Option(min=1, help="Number of images.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same images.")] = 0,
    fixed: Annotated[
        Path | None,
        typer.Option(
            help="A file that fixes split, options, images and seed, and the lists by checksum: "
            "a recipe's validation.json."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Number of processes; 0 starts none.")] = 2,
) -> None:
    """Compose a COCO-format data set of cut-outs and backgrounds, with exact masks."""
    sources = Sources(cutouts=cutouts, backgrounds=backgrounds, packages=packages)
    options = training_options() if preset is Preset.TRAINING else validation_options()
    if fixed is not None:
        plan = FixedSet.read(fixed)
        plan.check(sources)
        split, options, images, seed = plan.split, plan.options, plan.images, plan.seed
    library = sources.load(split)
    with show_progress() as progress:
        write_dataset(
            output,
            Composition(library=library, options=options, seed=seed),
            images=images,
            workers=workers,
            progress=partial(progress, "Composing"),
        )
    print_line(f"{images} images of {len(library.class_names)} classes: {output}")


if __name__ == "__main__":
    typer.run(command)
