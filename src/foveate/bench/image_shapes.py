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
    found = {
        "propose": tuple({"image": _image(level)} for level in sizes.levels),
        "refine": tuple(
            {spec.name: _rows(spec, part) for spec in manifest.stages["refine"].inputs}
            for part in parts
        ),
    }
    if sizes.features is not None and manifest.classifies:
        for stage in ("features", "classify"):
            found[stage] = (_detection(manifest, stage, sizes.features, boxes),)
    return found


def _image(sizes: LevelSizes | FeaturesSizes) -> Shape:
    return (1, 3, sizes.canvas_height, sizes.canvas_width)


def _rows(spec: TensorSpec, rows: int) -> Shape:
    """Return the shape of a tensor of which only the number of rows varies."""
    return (rows, *(side for side in spec.shape[1:] if isinstance(side, int)))


def _detection(
    manifest: Manifest, stage: str, sizes: FeaturesSizes, boxes: int
) -> dict[str, Shape]:
    """Return the shapes of the inputs of features or classify: the image, maps of it, and boxes."""
    strides = {
        spec.name: spec.stride
        for source in ("propose", "features")
        for spec in manifest.stages[source].outputs
    }
    found = {}
    for spec in manifest.stages[stage].inputs:
        stride = strides.get(spec.name)
        if spec.name == "image":
            found[spec.name] = _image(sizes)
        elif stride is None:
            found[spec.name] = _rows(spec, boxes)
        else:
            found[spec.name] = _map(spec, stride, sizes)
    return found


def _map(spec: TensorSpec, stride: int, sizes: FeaturesSizes) -> Shape:
    """Return the shape of a map; a side that the stride does not divide is rounded down."""
    channels = spec.shape[1]
    assert isinstance(channels, int)  # the signatures of a bundle are checked when it is opened
    return (1, channels, sizes.canvas_height // stride, sizes.canvas_width // stride)
