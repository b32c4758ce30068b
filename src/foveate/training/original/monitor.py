# SPDX-License-Identifier: Apache-2.0
"""Reports of a training run in progress: terminal, log and TensorBoard."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from foveate.errors import MissingExtraError
from foveate.progress import Progress
from foveate.training.original.sgd import OBJECTIVE, SgdTraining

_log = logging.getLogger(__name__)

# Called with the number of finished steps and the held-out losses when these are the lowest.
OnBest = Callable[[int, Mapping[str, float]], None]


@dataclass(kw_only=True)
class Monitor:
    """Reporter of a training run. It is the ``Progress`` of the loop; close it after the last step.

    Args:
        work: Training that is reported.
        board: Directory of the events for TensorBoard; None writes none.
        scalars_every: Number of steps between two points of a curve.
        images_every: Number of steps between two sample images.
        progress: Called after every step.
        on_best: Called when held-out losses are the lowest so far.
    """

    work: SgdTraining
    board: Path | None
    scalars_every: int
    images_every: int
    progress: Progress
    on_best: OnBest | None
    _writer: Any = field(default=None, init=False)
    _validation: dict[str, float] = field(default_factory=dict, init=False)
    _skipped: int = field(default=0, init=False)
    _measured: tuple[int, float] | None = field(default=None, init=False)

    def __call__(
        self, task: str, done: int, total: int, figures: Mapping[str, float] | None = None, /
    ) -> None:
        """Report a step with running means of the losses."""
        drawn, losses = self.work.drawn, figures or {}
        assert drawn is not None
        for record in drawn.skipped:
            _log.warning("%s: step %d did without a record: %s", task, done, record)
        self._skipped += len(drawn.skipped)
        self.progress(task, done, total, {**losses, **self._validation})
        first, _ = self._begin(done)
        if self._writer is None:
            return
        # Speed needs two moments, so that the first step has no point.
        if done % self.scalars_every == 0 and done > first:
            self._write(done, self._scalars(done, losses))
            self._measured = (done, time.monotonic())
        if done % self.images_every == 0 or done == total:
            self.work.objective.network.eval()
            image = self.work.objective.image_grid(drawn.batch)
            self._writer.add_image("samples", image, done, dataformats="HWC")

    def validated(self, task: str, done: int, losses: Mapping[str, float], lowest: bool) -> None:
        """Report the losses on held-out batches."""
        self._begin(done)
        # One number: with more of them, a terminal has no room for the remaining time.
        self._validation = {"validation": losses[OBJECTIVE]}
        words = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
        best = ", the lowest so far" if lowest else ""
        _log.info("%s: validation after step %d: %s%s", task, done, words, best)
        if self._writer is not None:
            self._write(done, {f"validation/{name}": loss for name, loss in losses.items()})
        if lowest and self.on_best is not None:
            self.on_best(done, losses)

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()

    def _begin(self, done: int) -> tuple[int, float]:
        """Open the event file at the first report; return when speed was last measured."""
        if self._measured is None:
            self._measured = (done, time.monotonic())
            if self.board is not None:
                self._writer = _summary_writer(self.board, done)
        return self._measured

    def _write(self, done: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, done)

    def _scalars(self, done: int, losses: Mapping[str, float]) -> dict[str, float]:
        assert self._measured is not None
        steps, seconds = done - self._measured[0], time.monotonic() - self._measured[1]
        return {
            **{f"loss/{name}": loss for name, loss in losses.items()},
            "rate": self.work.schedule.learning_rate(done - 1),
            "records left out": self._skipped,
            "samples a second": steps * self.work.schedule.batch / seconds,
        }


def _summary_writer(directory: Path, first: int) -> Any:
    """Open the event files of a training run; hide events of an earlier run beyond ``first``."""
    try:
        tensorboard = import_module("torch.utils.tensorboard")
    except ModuleNotFoundError as error:
        raise MissingExtraError("tensorboard", "train") from error
    return tensorboard.SummaryWriter(str(directory), purge_step=first)
