# SPDX-License-Identifier: Apache-2.0
"""Presets: named trade-offs between speed and accuracy, with measurements of each."""

from dataclasses import dataclass, field

from foveate.bundle.pyramid import check_scales
from foveate.bundle.schema import require


@dataclass(frozen=True, kw_only=True)
class RelativeTime:
    """Time per image divided by that of the bundle without a preset, and its interval."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        require(0 < self.low <= self.high and self.value > 0, "need 0 < low <= high and 0 < value")


@dataclass(frozen=True, kw_only=True)
class PresetMeasurement:
    """Measurements of a preset on one data set.

    Args:
        images: Number of images of the data set.
        objects: Number of objects in them.
        relative_time: Relative time, over the timed images of this data set.
        figures: Figures of accuracy by the names of ``foveate evaluate``, such as "mask AR@100".
    """

    images: int
    objects: int
    relative_time: RelativeTime
    figures: dict[str, float]

    def __post_init__(self) -> None:
        require(self.images >= 1 and self.objects >= 0, "need 1 <= images and 0 <= objects")


@dataclass(frozen=True, kw_only=True)
class PresetSpec:
    """A named trade-off between speed and accuracy: options of the pipeline, and measurements.

    Args:
        relative_time: Relative time, over all timed images.
        measured: Measurements by the name of the data set.
        scales: Scales of the levels that are used; all if absent.
        max_side: Longer side of the working image in pixels; that of the bundle if absent.
        top_k: Number of windows to refine; that of the bundle if absent.
        window_nms_iou: Overlap of two windows above which the lower one is dropped; that of the
            bundle if absent.
        conditions: Where and how it was measured: processor, threads, device and the like.
    """

    relative_time: RelativeTime
    measured: dict[str, PresetMeasurement]
    scales: tuple[float, ...] | None = None
    max_side: int | None = None
    top_k: int | None = None
    window_nms_iou: float | None = None
    conditions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.scales is not None:
            check_scales(self.scales)
        require(self.max_side is None or self.max_side >= 16, "max_side must be at least 16")
        require(self.top_k is None or self.top_k >= 1, "top_k must be at least 1")
        overlap = self.window_nms_iou
        require(overlap is None or 0 < overlap <= 1, "window_nms_iou must lie in (0, 1]")

    @property
    def options(self) -> dict[str, tuple[float, ...] | float]:
        """The options of the pipeline that the preset sets, by name."""
        names = ("scales", "max_side", "top_k", "window_nms_iou")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}
