# SPDX-License-Identifier: Apache-2.0
"""The published schedules as data: batches, epochs, learning rates and the settings of SGD."""

from __future__ import annotations

from dataclasses import dataclass, replace

from foveate.errors import ModelError, OptionError
from foveate.evaluation.legacy import LegacyOptions
from foveate.models.build import ON_TIMM
from foveate.models.timm_trunk import PREFIX


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The steps of a training run.

    Args:
        epochs: Number of epochs.
        epoch_steps: Number of optimizer steps per epoch. An epoch is a count of steps, not a pass
            over the data.
        batch: Number of samples per step, over all processes: windows of DeepMask and SharpMask,
            images of the classifiers.
        learning_rates: Pairs of an epoch and the learning rate from its beginning on. Epochs are
            counted from 1; 1.5 is the middle of the first.
        momentum: Momentum of SGD, without dampening.
        weight_decay: Weight decay of SGD.
        decays_biases: Whether weight decay acts on biases as well.
        momentum_follows_rate: Whether a drop of the rate also shrinks the momentum by its factor,
            so that the steps shrink at once.
        score_share: Probability of a score batch in place of a mask batch (DeepMask only).
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
            raise OptionError("epochs, steps per epoch and the batch must be at least 1")
        firsts = [first for first, _ in self.learning_rates]
        if firsts[:1] != [1] or firsts != sorted(set(firsts)):
            raise OptionError(f"learning rates must begin at epoch 1 and increase, found {firsts}")

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return self.epochs * self.epoch_steps

    def learning_rate(self, index: int) -> float:
        """Return the learning rate of the step with this number, from 0."""
        return next(
            rate
            for first, rate in reversed(self.learning_rates)
            if (first - 1) * self.epoch_steps <= index
        )

    def shortened(self, **changes: int) -> Schedule:
        """Return a schedule with other ``epochs``, ``epoch_steps`` or ``batch``.

        Its learning rates are the same, and drop at the same fractions of the steps.
        """
        changed = replace(self, **changes)  # type: ignore[arg-type]  # these fields are integers
        share = changed.epochs / self.epochs
        rates = tuple((1 + (first - 1) * share, rate) for first, rate in self.learning_rates)
        return replace(changed, learning_rates=rates)


# DeepMask (ResNet-50) as in the original code.
DEEPMASK = Schedule(
    epochs=300,
    epoch_steps=4000,
    batch=32,
    learning_rates=((1, 1e-3), (51, 5e-4), (121, 1e-4)),
    momentum=0.9,
    weight_decay=5e-4,
    score_share=0.5,
)

# DeepMask as in its paper (VGG-A). The paper does not give the steps of the learning rate; these
# are those of the original code.
DEEPMASK_2015 = replace(DEEPMASK, weight_decay=5e-5)

# SharpMask as intended.
SHARPMASK = replace(
    DEEPMASK,
    learning_rates=((1, 1e-3), (51, 5e-4), (81, 1e-4)),
    momentum=0.0,
    weight_decay=0.0,
    score_share=0.0,
)

# SharpMask as it ran: the original scheduler runs only once, so that the rate never falls.
SHARPMASK_ORIGINAL = replace(SHARPMASK, learning_rates=((1, 1e-3),))

# MultiPathNet on COCO: 280,000 steps and 40,000 at a tenth of the rate.
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

# Fast R-CNN on Pascal VOC: 30,000 steps and 10,000 at a tenth of the rate.
FAST_RCNN = replace(
    MULTIPATHNET, epochs=400, batch=2, learning_rates=((1, 1e-3), (301, 1e-4)), weight_decay=5e-4
)


def published_schedule(name: str, legacy: LegacyOptions) -> Schedule:
    """Return the published schedule of a network; ``legacy`` may change that of SharpMask.

    Raises:
        ModelError: No schedule was published for this network.
    """
    schedules = {
        "deepmask-resnet50": DEEPMASK,
        "deepmask-vgg": DEEPMASK_2015,
        "sharpmask-resnet50": SHARPMASK_ORIGINAL if legacy.constant_sharpmask_rate else SHARPMASK,
        "multipathnet-vgg16": MULTIPATHNET,
        "multipathnet-resnet18": MULTIPATHNET,
        "multipathnet-resnet50": MULTIPATHNET,
        "fast-rcnn-vgg16": FAST_RCNN,
    }
    # A trunk of timm is trained like the published one.
    family, _, model = name.partition(f"-{PREFIX}")
    if model and family in ON_TIMM:
        name = "multipathnet-resnet50" if family == "multipathnet" else f"{family}-resnet50"
    if name not in schedules:
        on_timm = ", ".join(ON_TIMM)
        raise ModelError(
            f"{name!r} has no published training",
            remedy=f"use one of {', '.join(schedules)}, or {on_timm} with --trunk",
        )
    return schedules[name]
