# SPDX-License-Identifier: Apache-2.0
"""Conversion of results for other tools; what it needs is imported on request."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.errors import BackendError
from foveate.results.arguments import checked_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    import supervision

    from foveate.arrays import Float32Array, Int64Array
    from foveate.results.detections import Detections, Proposals
    from foveate.results.masks import Masks


def to_supervision(
    boxes: Float32Array,
    scores: Float32Array,
    masks: Masks,
    labels: Int64Array | None = None,
    names: Sequence[str] | None = None,
) -> supervision.Detections:
    """Return objects as ``supervision.Detections``, with masks as run lengths in their tight boxes.

    Args:
        boxes: (N, 4) float32 xyxy in pixels of the image.
        scores: (N,) float32.
        masks: N masks.
        labels: (N,) int64 class indices; None for objects without classes.
        names: N class names.

    Raises:
        BackendError: The package supervision is not installed, or older than 0.28.
    """
    sv = _supervision()
    # `CompactMask.from_coco_rle` decodes codes of whole images in Python, ten times as slowly.
    crops = [masks.crop_runs(index) for index in range(len(masks))]
    tops, lefts, heights, widths = np.array([box for _, box in crops], np.int32).reshape(-1, 4).T
    compact = sv.CompactMask(
        [counts for counts, _ in crops],
        np.stack([heights, widths], axis=1),
        np.stack([lefts, tops], axis=1),
        masks.shape[1:],
    )
    data = {} if names is None else {"class_name": np.array(names, np.str_)}
    return sv.Detections(xyxy=boxes, mask=compact, confidence=scores, class_id=labels, data=data)


def to_labelme(
    found: Detections | Proposals,
    names: Sequence[str],
    image: str | os.PathLike[str],
    tolerance: float,
) -> str:
    """Return results of an image with N names as labelme's file; see :meth:`Detections.to_labelme`."""
    from foveate.results.labeled import labeled_objects  # noqa: PLC0415 - most programs write none
    from foveate.results.labelme import labelme_json  # noqa: PLC0415 - likewise

    _, height, width = found.masks.shape
    objects = labeled_objects(names, found.scores, found.masks, tolerance)
    return labelme_json(checked_path("image", image), height, width, objects)


def to_cvat(
    found: Detections | Proposals,
    names: Sequence[str],
    class_names: Sequence[str],
    image: str | os.PathLike[str],
    tolerance: float,
) -> str:
    """Return results of an image with N names as CVAT's file; see :meth:`Detections.to_cvat`."""
    from foveate.results.cvat import CvatLabels  # noqa: PLC0415 - most programs write none
    from foveate.results.labeled import labeled_objects  # noqa: PLC0415 - likewise

    _, height, width = found.masks.shape
    document = CvatLabels(class_names)
    objects = labeled_objects(names, found.scores, found.masks, tolerance)
    document.add(checked_path("image", image), height, width, objects)
    return document.to_text()


def _supervision() -> Any:
    """Import the package supervision, which takes seconds."""
    remedy = "run: pip install --upgrade 'supervision>=0.28'"
    try:
        import supervision  # noqa: PLC0415 - it is optional
    except ImportError as error:
        raise BackendError("the package supervision is not installed", remedy=remedy) from error
    if not hasattr(supervision, "CompactMask"):
        found = supervision.__version__
        raise BackendError(f"supervision 0.28 or later is needed, found {found}", remedy=remedy)
    return supervision
