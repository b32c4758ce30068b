# SPDX-License-Identifier: Apache-2.0
"""Shapes of the inputs of all stages for one image, run by run."""

from __future__ import annotations

from foveate.bench.work import Shape
from foveate.bundle.manifest import Manifest, TensorSpec
from foveate.runtime.sizes import FeaturesSizes, LevelSizes, Sizes

StageRuns = tuple[dict[str, Shape], ...]
"""Shape of every input by name, for each run of a stage."""


def image_shapes(
    manifest: Manifest, sizes: Sizes, *, boxes: int, rows_at_once: int | None = None
) -> dict[str, StageRuns]:
    """Return the shapes of the inputs of each stage for one image, for every run of the stage.

    Args:
        manifest: Manifest of the bundle, with the options of the pipeline applied.
        sizes: Sizes of the image.
        boxes: Number of proposals that are classified.
        rows_at_once: Number of windows of a run of refine, or None if all go in one run.
    """
    windows = min(manifest.select.top_k, sizes.windows)
    at_once = min(rows_at_once or windows, windows)
    parts = [min(at_once, windows - first) for first in range(0, windows, at_once)]
    (image,) = manifest.stages["propose"].inputs
    found: dict[str, StageRuns] = {
        "propose": tuple({image.name: _map(image, 1, level)} for level in sizes.levels),
        "refine": tuple(
            {spec.name: _rows(spec, part) for spec in manifest.stages["refine"].inputs}
            for part in parts
        ),
    }
    if sizes.features is not None and manifest.classifies:
        sources = (*manifest.stages["propose"].outputs, *manifest.stages["features"].outputs)
        strides = {image.name: 1} | {one.name: one.stride for one in sources if one.stride}
        for stage in ("features", "classify"):
            found[stage] = (
                {
                    spec.name: _map(spec, strides[spec.name], sizes.features)
                    if spec.name in strides
                    else _rows(spec, boxes)
                    for spec in manifest.stages[stage].inputs
                },
            )
    return found


def _rows(spec: TensorSpec, rows: int) -> Shape:
    """Return the shape of a tensor of which only the number of rows varies."""
    return (rows, *(side for side in spec.shape[1:] if isinstance(side, int)))


def _map(spec: TensorSpec, stride: int, sizes: LevelSizes | FeaturesSizes) -> Shape:
    """Return the shape of a map; a side that the stride does not divide is rounded down."""
    channels = spec.shape[1]
    assert isinstance(channels, int)  # the signatures of a bundle are checked when it is opened
    return (1, channels, sizes.canvas_height // stride, sizes.canvas_width // stride)
