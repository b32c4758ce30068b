# SPDX-License-Identifier: Apache-2.0
"""`foveate train`: give a `mini` cascade its weights, on two CPU cores."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]


def command(
    *,
    dataset: Annotated[
        Path,
        typer.Option(help="A COCO-format data set: `train/` and `validation/`, as compose writes."),
    ],
    output: Annotated[
        Path, typer.Option(help="Directory of the run; an interrupted run goes on where it was.")
    ],
    seed: Annotated[int, typer.Option(help="Fixes every draw.")] = 0,
    deepmask_steps: Annotated[int, typer.Option(min=1)] = 10_000,
    sharpmask_steps: Annotated[int, typer.Option(min=1)] = 6_000,
    multipathnet_steps: Annotated[int, typer.Option(min=1)] = 6_000,
    views: Annotated[int, typer.Option(min=1, help="Views cached of every picture.")] = 5,
    regions: Annotated[
        int, typer.Option(min=1, help="Pictures whose proposals MultiPathNet trains on.")
    ] = 2_500,
) -> None:
    """Train DeepMask, SharpMask and MultiPathNet, one on the other, and calibrate the scores."""
    from dataclasses import replace

    from foveate.cli._console import progress, say
    from foveate.training.calibration import calibrate
    from foveate.training.dataset import CocoDataset
    from foveate.training.recipe import Recipe, train_cascade

    recipe = Recipe().seeded(seed)
    recipe = replace(
        recipe,
        cache=replace(recipe.cache, views_per_picture=views),
        deepmask=replace(recipe.deepmask, steps=deepmask_steps),
        sharpmask=replace(recipe.sharpmask, steps=sharpmask_steps),
        multipathnet=replace(recipe.multipathnet, steps=multipathnet_steps),
        regions=replace(recipe.regions, pictures=regions),
    )
    with progress() as advance:
        checkpoint = train_cascade(CocoDataset(dataset / "train"), output, recipe, advance)
        calibrate(
            checkpoint,
            CocoDataset(dataset / "validation"),
            progress=partial(advance, "calibration"),
        )
    say(f"Checkpoint: {checkpoint}", aside=True)
    say(f"Export it:  foveate export {checkpoint} --output my-bundle", aside=True)
