# SPDX-License-Identifier: Apache-2.0
"""What a user may decide about a pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.errors import OptionError
from foveate.typed_options import TypedOptions

# Scores are calibrated on composed images, and what they mean on photographs was not measured. The
# cat of the sample images, named correctly, scores 0.38: a threshold of 0.5 would hide it.
DEFAULT_SCORE_THRESHOLD = 0.25

_MOST_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class PipelineOptions(TypedOptions):
    """Options of a pipeline; ``None`` means what the bundle's manifest says.

    Args:
        top_k: Number of windows that are refined, hence the largest number of proposals; all
            windows of the image if there are fewer.
        score_threshold: Smallest score of a detection, 0 to 1.
        max_detections: Largest number of detections.
        window_nms_iou: Intersection over union with a better window above which a window is dropped.
        proposal_nms_iou: The same for boxes of proposals, before they are classified.
        class_nms_iou: The same for detections of one class.
        max_side: Longer side of the working image in pixels.
        legacy: Take the levels of the image itself instead of the working image, as the
            original DeepMask does. Memory then grows with the image.
        threads: Number of threads of each engine; by default as many as the affinity mask and the
            control group's quota allow.
        max_in_flight: Number of images in flight in ``Pipeline.stream``.
    """

    top_k: int | None = None
    score_threshold: float = DEFAULT_SCORE_THRESHOLD
    max_detections: int | None = None
    window_nms_iou: float | None = None
    proposal_nms_iou: float | None = None
    class_nms_iou: float | None = None
    max_side: int | None = None
    legacy: bool = False
    threads: int | None = None
    max_in_flight: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (
            ("top_k", 1),
            ("max_detections", 1),
            ("max_side", 16),
            ("threads", 1),
            ("max_in_flight", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name} must be at least {least}, found {value}")
        if self.threads is not None and self.threads > _MOST_THREADS:
            raise OptionError(f"threads must be at most {_MOST_THREADS}, found {self.threads}")
        for name in ("window_nms_iou", "proposal_nms_iou", "class_nms_iou"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise OptionError(f"{name} must be above 0 and at most 1, found {value}")
        if not 0 <= self.score_threshold <= 1:
            raise OptionError(f"score_threshold must lie in 0..1, found {self.score_threshold}")
