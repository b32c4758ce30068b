# SPDX-License-Identifier: Apache-2.0
"""Are the figures of a verification good enough?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from foveate.errors import ModelError, OptionError
from foveate.export.checks.matching import Matched
from foveate.export.checks.pasting import Pasted
from foveate.export.checks.record import Record
from foveate.export.checks.statistics import Difference


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What is good enough.

    Attributes:
        tolerance: largest difference, as a share of max(1, largest value).
        cosine: smallest between an output and the reference's.
        box: largest difference of a coordinate of a detection, in pixels.
        mask_iou: smallest between masks of a detection.
        min_match_rate: smallest share of all images' detections that have a partner within both.
        accuracy: smallest share of the reference's average recall and precision that is kept.
    """

    tolerance: float = 1e-5
    cosine: float = 0.9999
    box: float = 0.5
    mask_iou: float = 0.99
    min_match_rate: float = 1.0
    accuracy: float = 0.999

    def __post_init__(self) -> None:
        shares = {
            "cosine": self.cosine,
            "mask_iou": self.mask_iou,
            "min_match_rate": self.min_match_rate,
            "accuracy": self.accuracy,
        }
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise OptionError(f"{name} is {value}, expected 0 to 1")
        for name, value in {"tolerance": self.tolerance, "box": self.box}.items():
            if not value >= 0:
                raise OptionError(f"{name} is {value}, expected 0 or more")


_BY_PRECISION = {
    "fp32": Thresholds(),
    # Of two windows of nearly the same score another one may be taken.
    "fp16": Thresholds(tolerance=5e-2, cosine=0.999, min_match_rate=0.7, mask_iou=0.9, box=4.0),
    # Single values of a quantised network may be anywhere: its direction and its results count.
    "int8": Thresholds(
        tolerance=float("inf"),
        cosine=0.98,
        min_match_rate=0.4,
        mask_iou=0.9,
        box=4.0,
        accuracy=0.99,
    ),
}


def default_thresholds(precision: str) -> Thresholds:
    """Return what is asked of a stage of this precision unless it is told otherwise."""
    return _BY_PRECISION[precision]


def judge(record: Record, thresholds: Mapping[str, Thresholds] | None = None) -> None:
    """Refuse figures that are not good enough.

    Args:
        record: the figures.
        thresholds: by stage; by default those of each stage's precision.

    Raises:
        ModelError: naming the first stage that fails, in the cascade's order, else the detections.
    """
    by_stage = thresholds or {
        stage: default_thresholds(precision) for stage, precision in record.precision.items()
    }
    for stage in record.precision:
        asked = by_stage[stage]
        for name, output, difference in _of_stage(record, stage):
            why = _fault(difference, asked)
            if why is not None:
                raise ModelError(
                    f"the stage {stage!r} differs from {record.reference}: its output {output!r} "
                    f"{why}, on {name}",
                    remedy="run foveate verify --bisect to find the layer",
                )
    for image in record.images:
        if image.pasting is not None:
            judge_pasting(image.image, image.pasting)
    # The whole is as exact as its least exact stage.
    worst = max(record.precision, key=lambda one: list(_BY_PRECISION).index(record.precision[one]))
    asked = by_stage[worst]
    _judge_detections(record, asked)
    _judge_accuracy(record, asked)


def judge_pasting(image: str, found: Pasted) -> None:
    """Refuse a stage `paste` that makes other bits than the runtime.

    Raises:
        ModelError: saying how, and on which image.
    """
    why = found.fault()
    if why is not None:
        raise ModelError(
            f"the stage 'paste' differs from the runtime's own masks: {why}, on {image}",
            remedy="export it again: foveate export CHECKPOINT --output BUNDLE --with-paste",
        )


def _judge_detections(record: Record, asked: Thresholds) -> None:
    """Judge all images together: of a few detections, a single one is a large share."""
    good = [_good(image.detections, asked) for image in record.images]
    most = [max(one.detections.expected, one.detections.found) for one in record.images]
    if sum(good) >= asked.min_match_rate * sum(most):
        return
    lost = [most[number] - good[number] for number in range(len(most))]
    worst = record.images[lost.index(max(lost))]
    raise ModelError(
        f"the whole cascade differs from {record.reference}: {sum(good)} of {sum(most)} detections "
        f"have a partner, boxes within {asked.box:g} px and masks of IoU {asked.mask_iou:g}; most are "
        f"lost on {worst.image}",
        remedy="give other thresholds with --from-report, or look at it with foveate run",
    )


def _good(found: Matched, asked: Thresholds) -> int:
    return sum(
        pair.box_error <= asked.box and pair.mask_iou >= asked.mask_iou for pair in found.pairs
    )


def _judge_accuracy(record: Record, asked: Thresholds) -> None:
    for name, figure in record.accuracy.items():
        if not figure.found >= asked.accuracy * figure.expected:
            raise ModelError(
                f"the whole cascade is less accurate than {record.reference}: {name} is "
                f"{figure.found:.4f}, at least {asked.accuracy:.1%} of {figure.expected:.4f} was "
                "expected",
                remedy="run foveate verify --bisect to find the layer, or export in a higher precision",
            )


def _of_stage(record: Record, stage: str) -> Iterator[tuple[str, str, Difference]]:
    for image in record.images:
        for output, difference in image.stages.get(stage, {}).items():
            yield image.image, output, difference


def _fault(found: Difference, asked: Thresholds) -> str | None:
    if found.misshapen:
        return f"has another shape in {found.misshapen} of {found.calls} calls"
    if found.not_finite:
        return f"has {found.not_finite} values that are not finite"
    if not found.relative <= asked.tolerance:
        return (
            f"by {found.relative:.1e} of the largest value, at most {asked.tolerance:.0e} was "
            "expected"
        )
    if not found.cosine >= asked.cosine:
        return f"has a cosine of {found.cosine:.4f}, at least {asked.cosine:g} was expected"
    return None
