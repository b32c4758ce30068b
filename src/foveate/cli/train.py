# SPDX-License-Identifier: Apache-2.0
"""`foveate train`: give a `mini` cascade its weights, on two CPU cores."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from foveate.training.recipe import Report

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
    console = Console(stderr=True, highlight=False)
    with _progress(console) as report:
        checkpoint = train_cascade(CocoDataset(dataset / "train"), output, recipe, report)
        calibrate(
            checkpoint,
            CocoDataset(dataset / "validation"),
            progress=lambda done, total: report("calibration", done, total, {}),
        )
    console.print(f"Checkpoint: {checkpoint}")
    console.print(f"Export it:  foveate export {checkpoint} --output my-bundle")


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Report]:
    """A bar a step on a terminal; elsewhere a line every half a minute."""
    if not console.is_terminal:
        told: dict[str, float] = {}

        def tell(name: str, done: int, total: int, losses: dict[str, float]) -> None:
            now = time.monotonic()
            if done == total or now - told.get(name, -60.0) > 30:
                told[name] = now
                console.print(f"{name}: {done} of {total} {_text(losses)}".rstrip())

        yield tell
        return
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        *Progress.get_default_columns()[:-1],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Progress(*columns, console=console) as bar:
        tasks = {}

        def show(name: str, done: int, total: int, losses: dict[str, float]) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total, losses="")
            bar.update(tasks[name], completed=done, losses=_text(losses))

        yield show


def _text(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
