# SPDX-License-Identifier: Apache-2.0
"""The manifest and the options of the user, merged into the numbers that the stages need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from foveate.bundle.manifest import ClassifySpec, Manifest, PyramidSpec, SelectSpec

if TYPE_CHECKING:
    from foveate.runtime.options import PipelineOptions

T = TypeVar("T")

_UNLIMITED = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the stages need to know beside the manifest."""

    manifest: Manifest
    pyramid: PyramidSpec
    select: SelectSpec
    classify: ClassifySpec | None
    score_threshold: float

    @classmethod
    def merge(cls, manifest: Manifest, options: PipelineOptions) -> Settings:
        """Let each option that is given take the place of the manifest's number."""
        max_side = _UNLIMITED if options.legacy else options.max_side
        pyramid = manifest.pyramid
        if max_side is not None:
            pyramid = replace(pyramid, max_side=max_side)
        select = SelectSpec(
            top_k=_either(options.top_k, manifest.select.top_k),
            window_nms_iou=_either(options.window_nms_iou, manifest.select.window_nms_iou),
        )
        classify = manifest.classify
        if classify is not None:
            classify = replace(
                classify,
                class_nms_iou=_either(options.class_nms_iou, classify.class_nms_iou),
                max_detections=_either(options.max_detections, classify.max_detections),
                proposal_nms_iou=_either(options.proposal_nms_iou, classify.proposal_nms_iou),
            )
        return cls(
            manifest=manifest,
            pyramid=pyramid,
            select=select,
            classify=classify,
            score_threshold=options.score_threshold,
        )


def _either(given: T | None, default: T) -> T:
    return default if given is None else given
