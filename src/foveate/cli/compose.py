# SPDX-License-Identifier: Apache-2.0
"""`foveate compose`: make a data set of cut-outs and backgrounds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["command"]


class Preset(StrEnum):
    """Options by name."""

    TRAINING = "training"
    VALIDATION = "validation"


def command(
    cutouts: Annotated[
        Path,
        typer.Option(
            help="Cut-outs with an alpha channel: a folder that holds one folder a class, "
            "or a .csv list with the columns path, class, family and split."
        ),
    ],
    backgrounds: Annotated[
        Path,
        typer.Option(help="Pictures without objects: a folder, or a .csv list of paths."),
    ],
    output: Annotated[Path, typer.Option(help="The data set: a folder that does not exist yet.")],
    *,
    packages: Annotated[
        Path | None,
        typer.Option(help="The folder that a list's paths start from; else the list's own."),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="train or validation: use this part only. Lists say what is where; folders are "
            "split by families of like pictures, a quarter of them for validation."
        ),
    ] = "",
    preset: Annotated[
        Preset, typer.Option(help="How rough: training is wide, validation is mild.")
    ] = Preset.TRAINING,
    pictures: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pictures.")] = 0,
    fixed: Annotated[
        Path | None,
        typer.Option(
            help="A file that fixes split, options, pictures and seed, and the lists by checksum: "
            "a recipe's validation.json."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 starts none.")] = 2,
) -> None:
    """Compose a COCO-format data set of cut-outs and backgrounds, with exact masks."""
    from foveate.training.compose import (
        FixedSet,
        Sources,
        training_options,
        validation_options,
        write_dataset,
    )

    sources = Sources(cutouts=cutouts, backgrounds=backgrounds, packages=packages)
    options = training_options() if preset is Preset.TRAINING else validation_options()
    if fixed is not None:
        plan = FixedSet.read(fixed)
        plan.check(sources)
        split, options, pictures, seed = plan.split, plan.options, plan.pictures, plan.seed
    console = Console()
    library = sources.load(split)
    with _progress(console) as progress:
        write_dataset(
            output,
            library,
            options,
            pictures=pictures,
            seed=seed,
            workers=workers,
            progress=progress,
        )
    console.print(f"{pictures} pictures of {len(library.class_names)} classes: {output}")


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, a line every tenth of the way elsewhere."""
    if not console.is_terminal:

        def tell(done: int, total: int) -> None:
            if done * 10 // total > (done - 1) * 10 // total:
                console.print(f"{done} of {total} pictures")

        yield tell
        return
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("Composing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
