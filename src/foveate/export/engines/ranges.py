# SPDX-License-Identifier: Apache-2.0
"""Which engines a bundle becomes, and the shapes that each accepts.

Sizes of levels and canvases are the runtime's own: an engine of another size would never be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import ceil

from foveate.bundle.engine_key import ShapeRange
from foveate.bundle.manifest import FeaturesSpec, Manifest, TensorSpec
from foveate.errors import OptionError
from foveate.export.engines.options import CompileOptions
from foveate.runtime.sizes import Sizes

Range = tuple[int, int, int]
Lengths = dict[str, Range]
"""Dimension -> its smallest, best and largest length."""


@dataclass(frozen=True, kw_only=True)
class EnginePlan:
    """An engine to be made: of which stage, under which name, for which shapes."""

    stage: str
    name: str
    profiles: tuple[dict[str, ShapeRange], ...]


def plan_engines(manifest: Manifest, options: CompileOptions) -> list[EnginePlan]:
    """List the engines that a bundle becomes.

    Without fixed images there is one engine a stage, for all sizes that the manifest allows, or
    one a bucket where the stage takes rows. With them there is one for each image's size: propose
    has one profile of a fixed shape for each level of the pyramid, so that the levels share the weights.

    Raises:
        OptionError: A stage or a dimension is unknown.
    """
    _check_names(manifest, options)
    wanted = options.stages or tuple(manifest.stages)
    return [engine for stage in wanted for engine in _of_stage(manifest, options, stage)]


def _of_stage(manifest: Manifest, options: CompileOptions, stage: str) -> list[EnginePlan]:
    spec = manifest.stages[stage]
    names = {name for one in spec.inputs for name in one.shape if isinstance(name, str)}
    sized = stage != "refine"
    counted = bool(names & {"windows", "boxes"})
    images = options.image_sizes if sized else ()
    buckets = options.buckets if counted else ()
    if counted and options.image_sizes and not buckets:
        buckets = (manifest.select.top_k,)
    engines = []
    for image, bucket in product(images or (None,), buckets or (None,)):
        name = stage
        name += "" if image is None else f"-{image[0]}x{image[1]}"
        name += "" if bucket is None else f"-k{bucket}"
        profiles = []
        for lengths in _lengths(manifest, stage, image):
            rows = {} if bucket is None else dict.fromkeys(("windows", "boxes"), (bucket,) * 3)
            profile = _profile(manifest, stage, lengths | rows | options.ranges)
            if profile not in profiles:
                profiles.append(profile)
        engines.append(EnginePlan(stage=stage, name=name, profiles=tuple(profiles)))
    return engines


def _lengths(manifest: Manifest, stage: str, image: tuple[int, int] | None) -> list[Lengths]:
    """Lengths of the dimensions of a stage, once a profile."""
    rows: Lengths = dict.fromkeys(("windows", "boxes"), (1, *(manifest.select.top_k,) * 2))
    if image is None:
        sizes = [_any_image(manifest, stage)]
    else:
        plan = Sizes.of(image[1], image[0], manifest.pyramid, manifest.windows, manifest.features)
        canvases = [(level.canvas_height, level.canvas_width) for level in plan.levels]
        if stage == "paste":
            width, height = image
            return [rows | {"image_height": (height,) * 3, "image_width": (width,) * 3}]
        if stage != "propose":
            seen = plan.features
            canvases = [] if seen is None else [(seen.canvas_height, seen.canvas_width)]
        sizes = [{"height": (h,) * 3, "width": (w,) * 3} for h, w in canvases] or [{}]
    return [rows | one for one in sizes]


def _any_image(manifest: Manifest, stage: str) -> Lengths:
    if stage == "paste":
        high = manifest.pyramid.max_side
        return {
            "image_height": (1, max(1, high * 3 // 4), high),
            "image_width": (1, high, high),
        }
    return _propose(manifest) if stage == "propose" else _features(manifest.features)


def _propose(manifest: Manifest) -> Lengths:
    """Canvases of all levels of all images; best for a level of a 4:3 image at scale 1."""
    pyramid, windows = manifest.pyramid, manifest.windows

    def canvas(side: float) -> int:
        return windows.stride * ceil((side + 2 * windows.padding) / windows.stride)

    low, high = canvas(1), canvas(pyramid.max_side * max(pyramid.scales))
    long, short = canvas(pyramid.max_side), canvas(pyramid.max_side * 3 / 4)
    return {"height": (low, min(short, high), high), "width": (low, min(long, high), high)}


def _features(spec: FeaturesSpec | None) -> Lengths:
    """Canvases of the second trunk; best for a 4:3 image."""
    if spec is None:
        return {}

    def canvas(side: float) -> int:
        return spec.multiple * ceil(side / spec.multiple)

    low, high = spec.multiple, canvas(spec.long_side)
    wide = canvas(min(spec.long_side, spec.short_side * 4 / 3))
    return {"height": (low, canvas(spec.short_side), high), "width": (low, wide, high)}


def _profile(manifest: Manifest, stage: str, lengths: Mapping[str, Range]) -> dict[str, ShapeRange]:
    outputs = [one for spec in manifest.stages.values() for one in spec.outputs]
    strides = {one.name: one.stride for one in outputs if one.stride is not None}
    profile = {}
    for one in manifest.stages[stage].inputs:
        if one.name in strides:
            lengths = {**_map_lengths(one, strides[one.name], lengths), **lengths}
        # What is bounded of a size is its values, the image's.
        shape = ("image_height", "image_width") if one.name == "size" else one.shape
        sides = [_length(stage, name, lengths) for name in shape]
        low, best, high = (tuple(column) for column in zip(*sides, strict=True))
        profile[one.name] = ShapeRange(minimum=low, optimum=best, maximum=high)
    return profile


def _map_lengths(one: TensorSpec, stride: int, lengths: Mapping[str, Range]) -> Lengths:
    """Return the lengths of a map's rows and columns, which follow from its image's."""
    found = {}
    for name, side in zip(one.shape[2:], ("height", "width"), strict=False):
        if isinstance(name, str) and side in lengths:
            low, best, high = (ceil(length / stride) for length in lengths[side])
            found[name] = (low, best, high)
    return found


def _length(stage: str, name: int | str, lengths: Mapping[str, Range]) -> Range:
    if isinstance(name, int):
        return name, name, name
    if name in lengths:
        return lengths[name]
    raise OptionError(
        f"the manifest gives no range for the dimension {name!r} of the stage {stage!r}",
        remedy=f"give one: --range {name}=1:16:64",
    )


def _check_names(manifest: Manifest, options: CompileOptions) -> None:
    for stage in options.stages:
        if stage not in manifest.stages:
            raise OptionError(
                f"the bundle has no stage {stage!r}", remedy=f"use {', '.join(manifest.stages)}"
            )
    specs = [one for stage in manifest.stages.values() for one in stage.inputs]
    known = sorted({name for one in specs for name in one.shape if isinstance(name, str)})
    known += ["image_height", "image_width"] if "paste" in manifest.stages else []
    for name in options.ranges:
        if name not in known:
            raise OptionError(
                f"no stage has a dimension {name!r}", remedy=f"use one of {', '.join(known)}"
            )
