# SPDX-License-Identifier: Apache-2.0
"""Annotate a task of CVAT with masks, as an auto-annotation function of cvat-sdk.

cvat-cli task auto-annotate 137 --function-file examples/cvat_function.py --allow-unmatched-labels
cvat-cli function create-native foveate --function-file examples/cvat_function.py -p bundle=str:mine
"""

from __future__ import annotations

import cvat_sdk.auto_annotation as cvataa
import numpy as np
import PIL.Image
from cvat_sdk.masks import encode_mask
from cvat_sdk.models import LabeledShapeRequest

import foveate
from foveate.labeling import LabelOptions, label_objects


class FoveateFunction:
    """A detection function, as ``cvat_sdk.auto_annotation.DetectionFunction`` defines it.

    Args:
        bundle: Name of a shipped bundle, or path of a bundle.
        label: Label of every object, of whatever kind; None for the classes of the bundle.
        tolerance: Largest distance in pixels between an outline and its polygons, which CVAT gets
            if it asks for polygons in place of masks.
    """

    def __init__(self, bundle: str, label: str | None, tolerance: float) -> None:
        self._pipeline = foveate.load(bundle)
        self._label, self._tolerance = label, tolerance
        self._names = [label] if label else list(self._pipeline.bundle.manifest.class_names)

    @property
    def spec(self) -> cvataa.DetectionFunctionSpec:
        """Labels of the function, each with its index as id."""
        labels = [cvataa.label_spec(name, i) for i, name in enumerate(self._names)]
        return cvataa.DetectionFunctionSpec(labels=labels)

    def detect(
        self, context: cvataa.DetectionFunctionContext, image: PIL.Image.Image
    ) -> list[LabeledShapeRequest]:
        """Return a mask per object, or polygons if CVAT asks for them."""
        pixels = np.asarray(image.convert("RGB"))
        pipeline, score = self._pipeline, context.conf_threshold
        found = pipeline.propose(pixels) if self._label else pipeline(pixels)
        found = found.filter(score=0.25 if score is None else score)
        if not context.conv_mask_to_poly:
            labels = (
                found.labels.tolist() if isinstance(found, foveate.Detections) else [0] * len(found)
            )
            masks = zip(labels, found.masks, strict=True)
            return [cvataa.mask(label, encode_mask(mask)) for label, mask in masks]
        options = LabelOptions(
            score_threshold=0, max_overlap=1, max_objects=len(found) or 1, tolerance=self._tolerance
        )
        return [
            cvataa.polygon(
                0 if self._label else self._names.index(one.label),
                np.round(polygon, 1).ravel().tolist(),
                group=number if len(one.polygons) > 1 else 0,
            )
            for number, one in enumerate(label_objects(found, options), 1)
            for polygon in one.polygons
        ]


def create(
    bundle: str = "mini", label: str | None = None, tolerance: float = 1.0
) -> FoveateFunction:
    """Return the function; cvat-cli passes the arguments that ``-p`` gives."""
    return FoveateFunction(bundle, label, tolerance)
