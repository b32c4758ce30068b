# SPDX-License-Identifier: Apache-2.0
"""The training of one network by its published schedule, with its files."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from foveate.errors import BackendError
from foveate.training.distributed import World
from foveate.training.loader import Loader
from foveate.training.loop import Trainable, drive
from foveate.training.origin import Origin
from foveate.training.original.board import Board
from foveate.training.original.plan import Keep, Plan, Report, TrainOptions
from foveate.training.original.sgd import SgdTraining
from foveate.training.original.validation import HeldOut, ValidatedTraining
from foveate.training.original.watch import Watch
from foveate.training.resume import ResumeFile

S = TypeVar("S")
B = TypeVar("B")


def train(
    plan: Plan[S, B],
    options: TrainOptions,
    output: Path,
    world: World,
    report: Report,
    keep: Keep | None = None,
) -> None:
    """Train a network in place, going on from what an interrupted run left.

    Sample i of step s, the head that a step trains, and dropout follow from the seed, so that an
    interrupted and resumed training ends with the weights of one that was not, bit for bit.

    Args:
        plan: what is trained.
        options: how.
        output: directory of `<name>.training`, the resume file, and of `board/<name>`, the events
            for TensorBoard.
        world: the processes that train together; the first one writes the files.
        report: hears of the progress.
        keep: called where held-out losses are the lowest so far, in the first process.

    Raises:
        ModelError: a loss is no longer finite, or the resume file does not fit.
        DataError: too many records of the data set are broken.
        BackendError: a worker died, or the processes do not share `output`.
    """
    schedule = plan.schedule
    output.mkdir(parents=True, exist_ok=True)
    resume = ResumeFile(output / f"{plan.name}.training", _origin(plan, options))
    if not world.agrees(resume.path.exists()):
        raise BackendError(
            "some processes find a training to go on with, others do not",
            file=resume.path,
            remedy="give processes on several machines a directory that all of them see",
        )
    with contextlib.ExitStack() as stack:
        loader = stack.enter_context(
            Loader(
                plan.source,
                indices=world.share(schedule.batch),
                seed=options.seed,
                steps=schedule.steps,
                workers=options.workers,
            )
        )
        work = SgdTraining(
            plan.task, schedule, loader, world, precision=options.precision, seed=options.seed
        )

        def open_board(first: int) -> Board | None:
            if not world.leads:
                return None
            return stack.enter_context(Board(output / "board" / plan.name, first))

        watch = Watch(plan, work, options, report, open_board, keep if world.leads else None)
        drive(
            _validated(plan, work, options, world, watch),
            steps=schedule.steps,
            resume=resume,
            every=options.checkpoint_every,
            progress=watch,
            writes=world.leads,
        )
    plan.task.network.eval()


def _validated(
    plan: Plan[S, B],
    work: SgdTraining[B],
    options: TrainOptions,
    world: World,
    watch: Watch[S, B],
) -> Trainable:
    if plan.held_out is None:
        return work
    held_out = HeldOut(
        plan.held_out,
        batch=plan.schedule.batch,
        batches=options.validation_batches,
        seed=options.seed,
        world=world,
    )
    return ValidatedTraining(
        work,
        held_out,
        every=options.validate_every,
        steps=plan.schedule.steps,
        tell=watch.validated,
    )


def _origin(plan: Plan[S, B], options: TrainOptions) -> Origin:
    asked = {
        "network": plan.name,
        "seed": options.seed,
        "precision": options.precision,
        **asdict(plan.schedule),
    }
    return replace(plan.origin, options={**asked, **plan.origin.options})
