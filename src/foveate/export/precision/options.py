# SPDX-License-Identifier: Apache-2.0
"""Options of the precision of stages and of the calibration of INT8."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

from foveate.bundle import STAGES
from foveate.bundle.source import PRECISIONS
from foveate.errors import OptionError
from foveate.export.precision.calibration import METHODS
from foveate.images.reading import find_images
from foveate.typed_options import TypedOptions

PHOTOGRAPHS = Path(__file__).parents[2] / "assets" / "images"
"""Shipped images, on which calibration runs by default."""

MOST_IMAGES = 32
"""Largest number of calibration images; of a larger set, every second, third and so on is taken."""

# The stage `paste` has no weights.
_NETWORKS = tuple(stage for stage in STAGES if stage != "paste")


@dataclass(frozen=True, kw_only=True)
class PrecisionOptions(TypedOptions):
    """Precisions of the stages of a bundle.

    Args:
        default: Precision of the stages that are not in ``stages``.
        stages: Precisions by stage.
        images: Images for calibration and for all measurements.
        method: Calibration method, one of ``METHODS``.
        max_quantization_error: Largest mean squared error of a stage's worst output, divided by its
            variance, up to which layers are INT8.
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
            what = f"there is no calibration method {self.method!r}"
            raise OptionError(what, remedy=f"use {', '.join(METHODS)}")
        largest = self.max_quantization_error
        if not largest > 0:
            raise OptionError(f"the largest quantization error must be above 0, found {largest}")

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        calibration: Sequence[Path] = (),
        method: str,
        max_quantization_error: float,
    ) -> PrecisionOptions:
        """Read ``int8`` or ``propose=int8,refine=fp16``, where stages not named are fp32.

        Args:
            text: Text as above.
            calibration: Images, or directories of images; the shipped ones by default.
            method: Calibration method.
            max_quantization_error: Bound as in the attribute.

        Raises:
            OptionError: A precision is unknown, or a stage does not exist or is named twice.
            InputError: A directory contains no image.
        """
        default, stages = "fp32", dict[str, str]()
        for part in (one.strip() for one in text.split(",")):
            stage, equals, precision = (word.strip() for word in part.partition("="))
            if not equals and "," not in text:
                default = part
            elif not equals or stage not in _NETWORKS or stage in stages:
                raise OptionError(
                    f"expected stage=precision for a stage not listed yet, found {part!r}",
                    remedy=f"use the stages {', '.join(_NETWORKS)}",
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
        """Whether all stages stay in float32."""
        return {self.default, *self.stages.values()} == {"fp32"}

    @property
    def quantizes(self) -> bool:
        """Whether int8 was requested for some stage."""
        return "int8" in {self.default, *self.stages.values()}

    def check_stages(self, known: Collection[str]) -> None:
        """Check that the networks have the stages that are named.

        Raises:
            OptionError: One of them is not known.
        """
        for name in self.stages:
            if name not in known:
                remedy = f"name one of {', '.join(known)}"
                raise OptionError(f"the network has no stage {name!r}", remedy=remedy)

    def of(self, stage: str) -> str:
        """Return the requested precision of a stage."""
        return self.stages.get(stage, self.default)
