# SPDX-License-Identifier: Apache-2.0
"""Losses on held-out samples every so many steps of a training, and which of them was the lowest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Generic, TypeVar

from foveate.training.distributed import World
from foveate.training.loader import Source, draw_batch
from foveate.training.original.sgd import OBJECTIVE, SgdTraining

S = TypeVar("S")
B = TypeVar("B")

Tell = Callable[[int, Mapping[str, float], bool], None]
"""Called with steps done, the losses by name, and whether their sum was never lower."""


class HeldOut(Generic[S, B]):
    """The same held-out batches again and again, drawn when they are first asked for.

    Args:
        source: of held-out samples.
        batch: samples of a batch, over all processes.
        batches: how many.
        seed: of the draws.
        world: the processes, each of which has its share of every batch.
    """

    def __init__(self, source: Source[S, B], *, batch: int, batches: int, seed: int, world: World):
        self._source = source
        self._indices = world.share(batch)
        self._count = batches
        self._seed = seed
        self._drawn: list[B] = []

    def batches(self) -> list[B]:
        """Give the batches; a broken record among them is left out as in training.

        Raises:
            DataError: too many records of the data set are broken.
        """
        if not self._drawn:
            self._drawn = [
                draw_batch(self._source, self._indices, self._seed, step).batch
                for step in range(self._count)
            ]
        return self._drawn


class ValidatedTraining(Generic[S, B]):
    """A training that looks at held-out batches: a `training.loop.Trainable`.

    It learns the same with and without them.

    Args:
        work: the training.
        held_out: what it is measured on.
        every: steps between two measurements; the last step is measured too.
        steps: of the training.
        tell: hears of each measurement.
    """

    def __init__(
        self,
        work: SgdTraining[B],
        held_out: HeldOut[S, B],
        *,
        every: int,
        steps: int,
        tell: Tell,
    ):
        self._work = work
        self._held_out = held_out
        self._every = every
        self._steps = steps
        self._tell = tell
        self._lowest = inf

    def step(self, index: int) -> Mapping[str, float]:
        """Do a step, and measure if it is time."""
        losses = self._work.step(index)
        done = index + 1
        if done % self._every == 0 or done == self._steps:
            found = self._work.measure(self._held_out.batches())
            best = found[OBJECTIVE] < self._lowest
            if best:
                self._lowest = found[OBJECTIVE]
            self._tell(done, found, best)
        return losses

    def state_dict(self) -> dict[str, Any]:
        """The training's state, and the lowest sum of losses."""
        return {**self._work.state_dict(), "lowest": self._lowest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave, here or in a training without held-out batches."""
        self._work.load_state_dict(state)
        self._lowest = state.get("lowest", inf)
