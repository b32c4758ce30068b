# SPDX-License-Identifier: Apache-2.0
"""The engines of a bundle, and the shapes that each accepts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from math import ceil

from foveate.bundle.engine_key import ShapeRange
from foveate.bundle.manifest import FeaturesSpec, Manifest, TensorSpec
from foveate.errors import OptionError
from foveate.export.engines.options import CompileOptions
from foveate.runtime.options import PipelineOptions
from foveate.runtime.sizes import Sizes, longest_level

Range = tuple[int, int, int]
Lengths = dict[str, Range]
"""Smallest, best and largest length by dimension."""


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """Name and shapes of an engine; the name is the stage, plus image size and bucket if fixed."""

    stage: str
    name: str
    profiles: tuple[dict[str, ShapeRange], ...]  # the shapes of each input


def engine_specs(manifest: Manifest, options: CompileOptions) -> list[EngineSpec]:
    """Return the engines of a bundle.

    By default there is one engine per stage, for all sizes that the manifest and its presets allow.
    Stages that take rows have one engine per bucket instead, and all stages one engine per fixed image
    size. For such a size, propose has one profile per level of the pyramid, so that the levels share
    the weights, and the stages of the classifier have one per level that it reads with a preset or
    without.

    Raises:
        OptionError: A stage or a dimension is unknown.
    """
    _check_names(manifest, options)
    manifests = list(_applied(manifest, options))
    stages = options.stages or tuple(manifest.stages)
    return [engine for stage in stages for engine in _of_stage(manifests, options, stage)]


def _applied(manifest: Manifest, options: CompileOptions) -> Iterator[Manifest]:
    """Yield the manifest as pipelines use it: without a preset, and with each one that they accept."""
    yield PipelineOptions(max_side=options.max_side).applied_to(manifest)
    for preset in manifest.presets:
        with suppress(OptionError):  # no pipeline runs with this preset
            yield PipelineOptions(preset=preset, max_side=options.max_side).applied_to(manifest)


def _of_stage(
    manifests: Sequence[Manifest], options: CompileOptions, stage: str
) -> list[EngineSpec]:
    spec = manifests[0].stages[stage]
    names = {name for one in spec.inputs for name in one.shape if isinstance(name, str)}
    buckets: tuple[int | None, ...] = (None,)
    if names & {"windows", "boxes"}:
        counts = dict.fromkeys(one.select.top_k for one in manifests)
        buckets = options.buckets or (tuple(counts) if options.image_sizes else (None,))
    engines = {}
    for image, bucket in product(options.image_sizes or (None,), buckets):
        sized = None if stage == "refine" else image
        rows = bucket
        if image is not None and bucket is not None:
            # A small image has fewer windows, and the runtime refines no more than it has.
            rows = min(bucket, max(_sizes(one, image).windows for one in manifests))
        name = stage
        name += "" if sized is None else f"-{sized[0]}x{sized[1]}"
        name += "" if rows is None else f"-k{rows}"
        profiles = _profiles(manifests, options, stage, sized, rows)
        engines[name] = EngineSpec(stage=stage, name=name, profiles=profiles)
    return list(engines.values())


def _profiles(
    manifests: Sequence[Manifest],
    options: CompileOptions,
    stage: str,
    image: tuple[int, int] | None,
    rows: int | None,
) -> tuple[dict[str, ShapeRange], ...]:
    fixed = {} if rows is None else dict.fromkeys(("windows", "boxes"), (rows,) * 3)
    found = [lengths for one in manifests for lengths in _lengths(one, stage, image)]
    if image is None:
        found = [_union(found)]
    profiles = []
    for lengths in found:
        profile = _profile(manifests[0], stage, lengths | fixed | options.ranges)
        if profile not in profiles:
            profiles.append(profile)
    return tuple(profiles)


def _union(found: Sequence[Lengths]) -> Lengths:
    """Return ranges that contain those of all, with the best lengths of the first."""
    return {
        name: (min(one[name][0] for one in found), best, max(one[name][2] for one in found))
        for name, (_, best, _) in found[0].items()
    }


def _sizes(manifest: Manifest, image: tuple[int, int]) -> Sizes:
    """Return the sizes of the runtime: an engine of other sizes would never be used."""
    width, height = image
    return Sizes.of(height, width, manifest)


def _lengths(manifest: Manifest, stage: str, image: tuple[int, int] | None) -> list[Lengths]:
    """Return the lengths of the dimensions of a stage, one mapping per profile."""
    # Most images have at least as many windows as are refined, so that number is the best length.
    rows: Lengths = dict.fromkeys(("windows", "boxes"), (1, *(manifest.select.top_k,) * 2))
    if image is None:
        return [rows | _any_image(manifest, stage)]
    if stage == "paste":
        width, height = image
        return [rows | {"image_height": (height,) * 3, "image_width": (width,) * 3}]
    fixed = _sizes(manifest, image)
    levels = fixed.levels if stage == "propose" else filter(None, [fixed.features])
    canvases = [(level.canvas_height, level.canvas_width) for level in levels]
    return [rows | {"height": (h,) * 3, "width": (w,) * 3} for h, w in canvases] or [rows]


def _any_image(manifest: Manifest, stage: str) -> Lengths:
    if stage == "paste":
        high = manifest.pyramid.max_side
        return {"image_height": (1, max(1, high * 3 // 4), high), "image_width": (1, high, high)}
    longest = manifest.pyramid.max_side * max(manifest.pyramid.scales)
    if stage == "propose":
        # Best is a level of a 4:3 image at scale 1.
        return _canvases(manifest, longest, manifest.pyramid.max_side)
    if manifest.features is None:
        return {}
    if not manifest.shares_trunk:
        return _own_canvases(manifest.features, manifest.stages["features"].largest_stride)
    best = _sizes(manifest, (manifest.pyramid.max_side, max(1, manifest.pyramid.max_side * 3 // 4)))
    assert best.features is not None
    longest = min(longest, longest_level(manifest.features, manifest.pyramid))
    return _canvases(manifest, longest, best.features.width)


def _canvases(manifest: Manifest, longest: float, best: float) -> Lengths:
    """Return the canvases of levels up to a length; best is a level of a 4:3 image of a length."""
    canvas = manifest.windows.canvas_side
    low, high = canvas(1), canvas(longest)
    short, long = min(canvas(best * 3 / 4), high), min(canvas(best), high)
    return {"height": (low, short, high), "width": (low, long, high)}


def _own_canvases(spec: FeaturesSpec, multiple: int) -> Lengths:
    """Return the canvases of a classifier's own trunk; best is that of a 4:3 image."""

    def canvas(side: float) -> int:
        return multiple * ceil(side / multiple)

    low, high = multiple, canvas(spec.long_side)
    wide = canvas(min(spec.long_side, spec.short_side * 4 / 3))
    return {"height": (low, canvas(spec.short_side), high), "width": (low, wide, high)}


def _profile(manifest: Manifest, stage: str, lengths: Mapping[str, Range]) -> dict[str, ShapeRange]:
    outputs = [one for spec in manifest.stages.values() for one in spec.outputs]
    strides = {one.name: one.stride for one in outputs if one.stride is not None}
    profile = {}
    for one in manifest.stages[stage].inputs:
        if one.name in strides:
            lengths = {**_map_lengths(one, strides[one.name], lengths), **lengths}
        # The range of ``size`` is that of its values, the sides of the image.
        shape = ("image_height", "image_width") if one.name == "size" else one.shape
        sides = [_length(stage, name, lengths) for name in shape]
        low, best, high = (tuple(column) for column in zip(*sides, strict=True))
        profile[one.name] = ShapeRange(minimum=low, optimum=best, maximum=high)
    return profile


def _map_lengths(one: TensorSpec, stride: int, lengths: Mapping[str, Range]) -> Lengths:
    """Return the lengths of a map's rows and columns, which follow from the sides of its image."""
    found = {}
    for name, side in zip(one.shape[2:], ("height", "width"), strict=False):
        if isinstance(name, str) and side in lengths:
            low, best, high = (max(1, length // stride) for length in lengths[side])
            found[name] = (low, best, high)
    return found


def _length(stage: str, name: int | str, lengths: Mapping[str, Range]) -> Range:
    if isinstance(name, int):
        return name, name, name
    if name in lengths:
        return lengths[name]
    what = f"the manifest gives no range for the dimension {name!r} of the stage {stage!r}"
    raise OptionError(what, remedy=f"pass one: --range {name}=1:16:64")


def _check_names(manifest: Manifest, options: CompileOptions) -> None:
    for stage in options.stages:
        if stage not in manifest.stages:
            remedy = f"use {', '.join(manifest.stages)}"
            raise OptionError(f"the bundle has no stage {stage!r}", remedy=remedy)
    specs = [one for stage in manifest.stages.values() for one in stage.inputs]
    known = sorted({name for one in specs for name in one.shape if isinstance(name, str)})
    known += ["image_height", "image_width"] if "paste" in manifest.stages else []
    for name in options.ranges:
        if name not in known:
            remedy = f"use one of {', '.join(known)}"
            raise OptionError(f"no stage has a dimension {name!r}", remedy=remedy)
