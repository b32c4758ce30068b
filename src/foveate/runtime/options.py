# SPDX-License-Identifier: Apache-2.0
"""What a user may decide about a pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.errors import OptionError
from foveate.scores import MIN_SCORE
from foveate.typed_options import TypedOptions

__all__ = ["Options"]


_MOST_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class Options(TypedOptions):
    """Options of a pipeline; ``None`` means what the bundle's manifest says.

    Args:
        top_k: Number of windows that are refined, hence the largest number of proposals; all
            windows of the picture if there are fewer.
        min_score: Smallest score of a detection, 0 to 1; see :mod:`foveate.scores`.
        top_n: Largest number of detections.
        window_nms: Intersection over union with a better window above which a window is dropped.
        proposal_nms: The same for boxes of proposals, before they are classified.
        nms: The same for detections of one class.
        max_side: Longer side of the working picture in pixels.
        legacy: Take the levels of the picture itself instead of the working picture, as the
            original DeepMask does. Memory then grows with the picture.
        threads: Number of threads of each engine; by default as many as the affinity mask and the
            control group's quota allow.
        slots: Number of pictures in flight in ``Pipeline.stream``.
    """

    top_k: int | None = None
    min_score: float = MIN_SCORE
    top_n: int | None = None
    window_nms: float | None = None
    proposal_nms: float | None = None
    nms: float | None = None
    max_side: int | None = None
    legacy: bool = False
    threads: int | None = None
    slots: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (
            ("top_k", 1),
            ("top_n", 1),
            ("max_side", 16),
            ("threads", 1),
            ("slots", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name} must be at least {least}, found {value}")
        if self.threads is not None and self.threads > _MOST_THREADS:
            raise OptionError(f"threads must be at most {_MOST_THREADS}, found {self.threads}")
        for name in ("window_nms", "proposal_nms", "nms"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise OptionError(f"{name} must be above 0 and at most 1, found {value}")
        if not 0 <= self.min_score <= 1:
            raise OptionError(f"min_score must lie in 0..1, found {self.min_score}")
