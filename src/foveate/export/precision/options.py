# SPDX-License-Identifier: Apache-2.0
"""What a user decides about precision: which one each stage has, and how INT8 is calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from foveate.bundle import STAGES
from foveate.bundle.source import PRECISIONS
from foveate.errors import OptionError
from foveate.export.precision.ranges import METHODS
from foveate.images.reading import find_images
from foveate.typed_options import TypedOptions

PHOTOGRAPHS = Path(__file__).parents[2] / "assets" / "images"
"""The shipped ones, which calibration takes where it is not told others."""

MOST_IMAGES = 32
"""Of more, every second, third and so on is taken."""


@dataclass(frozen=True, kw_only=True)
class PrecisionOptions(TypedOptions):
    """How the stages compute.

    Attributes:
        default: precision of the stages that `stages` does not name.
        stages: stage -> precision.
        images: for calibration and for all that is measured.
        method: of calibration, one of `ranges.METHODS`.
        max_quantization_error: mean squared error of a stage's worst output, over its variance, up to which layers
            are INT8.
    """

    default: str = "fp32"
    stages: Mapping[str, str] = field(default_factory=dict)
    images: tuple[Path, ...] = ()
    method: str = "percentile"
    max_quantization_error: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (self.default, *self.stages.values()):
            if name not in PRECISIONS:
                raise OptionError(
                    f"there is no precision {name!r}",
                    remedy=f"use {', '.join(PRECISIONS)}, or stages as in propose=int8,refine=fp16",
                )
        if self.method not in METHODS:
            raise OptionError(
                f"there is no calibration method {self.method!r}",
                remedy=f"use {', '.join(METHODS)}",
            )
        if not self.max_quantization_error > 0:
            raise OptionError(
                f"the largest quantization error must be above 0, found {self.max_quantization_error}"
            )

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        calibration: Sequence[Path] = (),
        method: str,
        max_quantization_error: float,
    ) -> PrecisionOptions:
        """Read ``int8`` or ``propose=int8,refine=fp16``, where a stage that is not named is fp32.

        Args:
            text: as above.
            calibration: images, or directories of images; the shipped photographs by default.
            method: of calibration.
            max_quantization_error: as the attribute.

        Raises:
            OptionError: of an unknown precision, or of a stage that does not exist or is named twice.
            InputError: a directory has no image.
        """
        default, stages = "fp32", dict[str, str]()
        for part in (one.strip() for one in text.split(",")):
            stage, equals, precision = (word.strip() for word in part.partition("="))
            if not equals and "," not in text:
                default = part
            elif not equals or stage not in STAGES or stage in stages:
                raise OptionError(
                    f"{part!r} names no precision of one more stage",
                    remedy=f"write stage=precision, of the stages {', '.join(STAGES)}",
                )
            else:
                stages[stage] = precision
        images, _ = find_images([str(one) for one in calibration or (PHOTOGRAPHS,)])
        return cls(
            default=default,
            stages=stages,
            images=tuple(images[:: ceil(len(images) / MOST_IMAGES)]),
            method=method,
            max_quantization_error=max_quantization_error,
        )

    @property
    def exact(self) -> bool:
        """Tell whether all stages stay in float32."""
        return {self.default, *self.stages.values()} == {"fp32"}

    def of(self, stage: str) -> str:
        """Return the precision that is asked for a stage."""
        return self.stages.get(stage, self.default)
