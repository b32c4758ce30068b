# SPDX-License-Identifier: Apache-2.0
"""What is told of a training while it runs, and to whom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from foveate.training.original.board import Board
from foveate.training.original.plan import Keep, Plan, Report, TrainOptions
from foveate.training.original.sgd import OBJECTIVE, SgdTraining

_log = logging.getLogger(__name__)

S = TypeVar("S")
B = TypeVar("B")


class Watch(Generic[S, B]):
    """Tells people how it goes: the caller, the log and TensorBoard.

    Args:
        plan: what is trained.
        work: the training.
        options: how often what is written.
        report: hears of every step.
        open_board: opens the board where this process has one, at the step that it goes on from.
        keep: see `train`.
    """

    def __init__(
        self,
        plan: Plan[S, B],
        work: SgdTraining[B],
        options: TrainOptions,
        report: Report,
        open_board: Callable[[int], Board | None],
        keep: Keep | None,
    ):
        self._plan = plan
        self._work = work
        self._options = options
        self._report = report
        self._open_board = open_board
        self._keep = keep
        self._board: Board | None = None
        self._held_out: dict[str, float] = {}
        self._skipped = 0
        self._since: tuple[int, float] | None = None

    def __call__(self, done: int, total: int, losses: dict[str, float]) -> None:
        """Tell of a step: its number, that of the last, and running means of the losses."""
        drawn = self._work.drawn
        assert drawn is not None
        for record in drawn.skipped:
            _log.warning("%s: step %d did without a record: %s", self._plan.name, done, record)
        self._skipped += len(drawn.skipped)
        self._report(done, total, losses | self._held_out)
        since = self._begin(done)
        if self._board is None:
            return
        if done % self._options.scalars_every == 0 and done > since[0]:
            self._board.scalars(done, self._scalars(done, losses))
            self._since = (done, time.monotonic())
        if done % self._options.checkpoint_every == 0 or done == total:
            self._plan.task.network.eval()
            self._board.image(done, "samples", self._plan.task.sheet(drawn.batch))

    def validated(self, done: int, losses: Mapping[str, float], lowest: bool) -> None:
        """Tell of the losses on held-out batches, and have the network kept if they are lowest."""
        self._begin(done)
        # One number: with more of them a terminal has no room for the time that is left.
        self._held_out = {"validation": losses[OBJECTIVE]}
        words = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
        best = ", the lowest so far" if lowest else ""
        _log.info("%s: validation after step %d: %s%s", self._plan.name, done, words, best)
        if self._board is not None:
            self._board.scalars(done, {f"validation/{n}": loss for n, loss in losses.items()})
        if lowest and self._keep is not None:
            self._keep(done, losses)

    def _begin(self, done: int) -> tuple[int, float]:
        """Open the board before the first thing is written; give when speed was last measured."""
        if self._since is None:
            self._since = (done, time.monotonic())
            self._board = self._open_board(done)
        return self._since

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
