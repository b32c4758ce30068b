# SPDX-License-Identifier: Apache-2.0
"""The training of one network by its published schedule, with its files."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from foveate.errors import BackendError, OptionError
from foveate.training.distributed import World
from foveate.training.loader import Loader, Source
from foveate.training.loop import drive
from foveate.training.published.board import Board
from foveate.training.published.schedules import Schedule
from foveate.training.published.sgd import Precision, SgdTraining
from foveate.training.published.task import Task
from foveate.training.resume import ResumeFile

_log = logging.getLogger(__name__)

S = TypeVar("S")
B = TypeVar("B")

Report = Callable[[int, int, Mapping[str, float]], None]
"""Called with steps done, their number, and running means of the losses."""


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[S, B]):
    """What is trained, on what, and how long.

    Attributes:
        name: of the network, which its files are called by.
        task: the network with its losses.
        source: where its samples come from.
        schedule: its steps.
        facts: what else decides the result, such as the data set's name: a training is only
            resumed with the same.
    """

    name: str
    task: Task[B]
    source: Source[S, B]
    schedule: Schedule
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How the work is done, and how often it is written down.

    Attributes:
        seed: fixes every draw.
        precision: of the forward and backward pass.
        workers: processes that draw samples, for each process that trains.
        checkpoint_every: steps between two writings of the resume file, and of sample pictures.
        scalars_every: steps between two points of a curve.
    """

    seed: int = 0
    precision: Precision = "float32"
    workers: int = 2
    checkpoint_every: int = 500
    scalars_every: int = 20

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise OptionError(f"the seed must not be negative, found {self.seed}")
        if self.checkpoint_every < 1 or self.scalars_every < 1:
            raise OptionError("checkpoint_every and scalars_every must be at least 1")


def train(
    plan: Plan[S, B], options: TrainOptions, output: Path, world: World, report: Report
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

    Raises:
        ModelError: a loss is no longer finite, or the resume file does not fit.
        DataError: too many records of the data set are broken.
        BackendError: a worker died, or the processes do not share `output`.
    """
    schedule = plan.schedule
    output.mkdir(parents=True, exist_ok=True)
    resume = ResumeFile(output / f"{plan.name}.training", _facts(plan, options))
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

        watch = _Watch(plan, work, options, open_board)
        drive(
            work,
            steps=schedule.steps,
            resume=resume,
            every=options.checkpoint_every,
            progress=lambda done, total, losses: watch(done, total, losses, report),
            writes=world.leads,
        )
    plan.task.network.eval()


def _facts(plan: Plan[S, B], options: TrainOptions) -> dict[str, Any]:
    return {
        "network": plan.name,
        "seed": options.seed,
        "precision": options.precision,
        **asdict(plan.schedule),
        **plan.facts,
    }


class _Watch(Generic[S, B]):
    """Tells people how it goes: the caller, the log and TensorBoard."""

    def __init__(
        self,
        plan: Plan[S, B],
        work: SgdTraining[B],
        options: TrainOptions,
        open_board: Callable[[int], Board | None],
    ):
        self._plan = plan
        self._work = work
        self._options = options
        self._open_board = open_board
        self._board: Board | None = None
        self._skipped = 0
        self._since: tuple[int, float] | None = None

    def __call__(self, done: int, total: int, losses: dict[str, float], report: Report) -> None:
        drawn = self._work.drawn
        assert drawn is not None
        for record in drawn.skipped:
            _log.warning("%s: step %d did without a record: %s", self._plan.name, done, record)
        self._skipped += len(drawn.skipped)
        report(done, total, losses)
        if self._since is None:
            self._since = (done, time.monotonic())
            self._board = self._open_board(done)
        if self._board is None:
            return
        if done % self._options.scalars_every == 0 and done > self._since[0]:
            self._board.scalars(done, self._scalars(done, losses))
            self._since = (done, time.monotonic())
        if done % self._options.checkpoint_every == 0 or done == total:
            self._plan.task.network.eval()
            self._board.picture(done, "samples", self._plan.task.sheet(drawn.batch))

    def _scalars(self, done: int, losses: dict[str, float]) -> dict[str, float]:
        assert self._since is not None
        schedule = self._plan.schedule
        steps, seconds = done - self._since[0], time.monotonic() - self._since[1]
        return {
            **{f"loss/{name}": loss for name, loss in losses.items()},
            "rate": schedule.learning_rate(done - 1),
            "records left out": self._skipped,
            "samples a second": steps * schedule.batch / seconds,
        }
