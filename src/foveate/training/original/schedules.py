# SPDX-License-Identifier: Apache-2.0
"""The published schedules as data: batches, epochs, learning rates and what SGD adds to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from foveate.errors import OptionError


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a network is trained, and with which steps.

    Attributes:
        epochs: epochs in all.
        epoch_steps: optimiser steps an epoch. An epoch is a count of steps, not a pass over the data.
        batch: samples a step, over all processes: windows of DeepMask and SharpMask, images of
            the classifiers.
        learning_rates: (epoch from whose begin it holds, rate) pairs, epochs counted from 1; 1.5
            is the middle of the first.
        momentum: of SGD; there is no dampening.
        weight_decay: of SGD.
        decays_biases: whether weight decay acts on biases as well.
        momentum_follows_rate: whether a drop of the rate also shrinks the momentum by its factor,
            so that the steps shrink at once.
        score_share: probability of a score batch in place of a mask batch (DeepMask only).
    """

    epochs: int
    epoch_steps: int
    batch: int
    learning_rates: tuple[tuple[float, float], ...]
    momentum: float
    weight_decay: float
    decays_biases: bool = True
    momentum_follows_rate: bool = False
    score_share: float = 0.0

    def __post_init__(self) -> None:
        if min(self.epochs, self.epoch_steps, self.batch) < 1:
            raise OptionError("epochs, steps an epoch and the batch must be at least 1")
        firsts = [first for first, _ in self.learning_rates]
        if firsts[:1] != [1] or firsts != sorted(set(firsts)):
            raise OptionError(f"learning rates must begin at epoch 1 and go on, found {firsts}")

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.epoch_steps

    def epoch(self, index: int) -> int:
        """Tell which epoch, from 1, the step with this number, from 0, is in."""
        return index // self.epoch_steps + 1

    def learning_rate(self, index: int) -> float:
        """Tell the learning rate of the step with this number, from 0."""
        return next(
            rate
            for first, rate in reversed(self.learning_rates)
            if (first - 1) * self.epoch_steps <= index
        )

    def shortened(
        self, *, epochs: int | None = None, epoch_steps: int | None = None, batch: int | None = None
    ) -> Schedule:
        """Give a schedule of another length; its rates fall at the same share of the way.

        Args:
            epochs: epochs in all, as they are if not given.
            epoch_steps: steps an epoch, as they are if not given.
            batch: samples a step, as they are if not given; the rates stay.
        """
        chosen = self.epochs if epochs is None else epochs
        return replace(
            self,
            epochs=chosen,
            epoch_steps=self.epoch_steps if epoch_steps is None else epoch_steps,
            batch=self.batch if batch is None else batch,
            learning_rates=tuple(
                (1 + (first - 1) * chosen / self.epochs, rate)
                for first, rate in self.learning_rates
            ),
        )


DEEPMASK = Schedule(
    epochs=300,
    epoch_steps=4000,
    batch=32,
    learning_rates=((1, 1e-3), (51, 5e-4), (121, 1e-4)),
    momentum=0.9,
    weight_decay=5e-4,
    score_share=0.5,
)
"""The released DeepMask (ResNet-50)."""

DEEPMASK_2015 = replace(DEEPMASK, weight_decay=5e-5)
"""DeepMask as in its paper (VGG-A), whose steps of the learning rate are not known: those of the
released code stand in."""

SHARPMASK = Schedule(
    epochs=300,
    epoch_steps=4000,
    batch=32,
    learning_rates=((1, 1e-3), (51, 5e-4), (81, 1e-4)),
    momentum=0.0,
    weight_decay=0.0,
)
"""SharpMask as it was meant."""

SHARPMASK_ORIGINAL = replace(SHARPMASK, learning_rates=((1, 1e-3),))
"""SharpMask as it ran: the released scheduler is only asked once, so the rate never falls."""

MULTIPATHNET = Schedule(
    epochs=3200,
    epoch_steps=100,
    batch=4,
    learning_rates=((1, 1e-3), (2801, 1e-4)),
    momentum=0.9,
    weight_decay=0.0,
    decays_biases=False,
    momentum_follows_rate=True,
)
"""MultiPathNet on COCO: 280,000 steps and 40,000 at a tenth of the rate."""

FAST_RCNN = Schedule(
    epochs=400,
    epoch_steps=100,
    batch=2,
    learning_rates=((1, 1e-3), (301, 1e-4)),
    momentum=0.9,
    weight_decay=5e-4,
    decays_biases=False,
    momentum_follows_rate=True,
)
"""Fast R-CNN on Pascal VOC: 30,000 steps and 10,000 at a tenth of the rate."""
