# SPDX-License-Identifier: Apache-2.0
"""Options of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from foveate.errors import OptionError
from foveate.runtime.sizes import longest_level
from foveate.typed_options import TypedOptions

if TYPE_CHECKING:
    from foveate.bundle.manifest import Manifest

# The scores of mini are calibrated on photographs. The cat in the sample images, which is classified
# correctly, scores 0.49, so 0.5 would hide it.
DEFAULT_SCORE_THRESHOLD = 0.25

_MOST_THREADS = 1024
_UNLIMITED = 1 << 30  # pixels; longer than any image
# Relative difference of scales that are the same but for their rounding: 0.177 means 0.1768.
_SAME_SCALE = 5e-3


@dataclass(frozen=True, kw_only=True)
class PipelineOptions(TypedOptions):
    """Options of a pipeline. ``None`` stands for the value of the bundle's manifest.

    Args:
        preset: Name of a preset of the bundle, whose values replace the options that are ``None``;
            without a preset, the values of the manifest do.
        top_k: Number of windows to refine, and thus the largest number of proposals. An image with
            fewer windows refines all of them.
        score_threshold: Smallest score of a detection, 0 to 1.
        max_detections: Largest number of detections per image.
        window_nms_iou: Intersection over union with a better window above which a window is
            dropped before refinement.
        proposal_nms_iou: Intersection over union with the box of a better mask above which a
            proposal is not classified and gets a lower score.
        class_nms_iou: Intersection over union with a better detection of its class above which a
            detection is dropped.
        max_side: Longer side of the working image in pixels.
        scales: Scales of the levels of the pyramid that are used, each one of the manifest's or
            rounded to three digits. Fewer levels take less time and find fewer objects.
        pyramid: ``"working-size"`` takes the levels of the working image; ``"full-resolution"``
            takes those of the image itself, as the original DeepMask does, so that memory grows
            with the image. A classifier that continues the trunk of the proposals takes images up to
            a length that follows from its bundle, 8,195 pixels for ``mini``.
        tiles: Side in pixels of the overlapping tiles that an image longer than this and than
            ``max_side`` is cut into. The tiles are searched besides the whole image, which is shrunk
            to ``max_side``, as is a larger tile. ``"auto"`` cuts images of at least 4 times
            ``max_side`` into tiles of ``max_side``; ``"off"`` cuts none.
        tile_overlap: Pixels that neighboring tiles share at least, by default a quarter of their
            side. An object of up to this size lies in a tile as a whole.
        threads: Number of threads per engine; by default, the cores that the affinity mask and
            the quota of the control group allow.
        parallel_levels: Whether the levels of the pyramid may run at the same time. On a GPU with
            room for more than one, this lowers the latency of an image; each level then takes its
            own memory.
        debug: Whether a GPU waits for each of its kernels, and records no graph, so that the error
            of a GPU that stops names the kernel.
        max_in_flight: Number of images that ``Pipeline.stream`` processes at a time.

    Raises:
        OptionError: A value has the wrong type or lies outside its range.
    """

    preset: str | None = None
    top_k: int | None = None
    score_threshold: float = DEFAULT_SCORE_THRESHOLD
    max_detections: int | None = None
    window_nms_iou: float | None = None
    proposal_nms_iou: float | None = None
    class_nms_iou: float | None = None
    max_side: int | None = None
    scales: tuple[float, ...] | None = None
    pyramid: Literal["working-size", "full-resolution"] = "working-size"
    tiles: int | Literal["auto", "off"] = "off"
    tile_overlap: int | None = None
    threads: int | None = None
    parallel_levels: bool = False
    debug: bool = False
    max_in_flight: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_at_least(top_k=1, max_detections=1, max_side=16, tiles=64, tile_overlap=0)
        self._check_at_least(threads=1, max_in_flight=1)
        if self.threads is not None and self.threads > _MOST_THREADS:
            raise OptionError(f"threads must be at most {_MOST_THREADS}, found {self.threads}")
        for name in ("window_nms_iou", "proposal_nms_iou", "class_nms_iou"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise OptionError(f"{name} must be above 0 and at most 1, found {value}")
        if not 0 <= self.score_threshold <= 1:
            raise OptionError(f"score_threshold must lie in 0..1, found {self.score_threshold}")
        if self.tile_overlap is not None and self.tiles == "off":
            raise OptionError(
                f"tile_overlap needs tiles, found tile_overlap={self.tile_overlap}, tiles='off'",
                remedy="set tiles to 'auto' or to a side in pixels",
            )
        if self.tiles != "off" and self.pyramid == "full-resolution":
            raise OptionError(
                f"tiles={self.tiles!r} needs pyramid='working-size', found 'full-resolution'",
                remedy="omit one of them",
            )
        if self.scales is not None and not self.scales:
            raise OptionError(
                "scales must not be empty", remedy="omit the option to use all levels"
            )

    def with_preset(self, manifest: Manifest) -> PipelineOptions:
        """Return these options with the values of their preset in place of those that are None.

        Raises:
            OptionError: The bundle has no such preset.
        """
        if self.preset is None:
            return self
        if not manifest.presets:
            raise OptionError(
                f"the bundle {manifest.name!r} has no presets, found the preset {self.preset!r}",
                remedy="omit it, or measure some: foveate bench sweep, then foveate bench presets",
            )
        if self.preset not in manifest.presets:
            raise OptionError(
                f"the bundle {manifest.name!r} has no preset {self.preset!r}",
                remedy=f"use {', '.join(manifest.presets)}",
            )
        values: dict[str, Any] = manifest.presets[self.preset].options
        return replace(self, **{k: v for k, v in values.items() if getattr(self, k) is None})

    def applied_to(self, manifest: Manifest) -> Manifest:
        """Return a manifest with the given options in place of its own values.

        Raises:
            OptionError: The bundle has no such preset or level, or its classifier cannot work
                with these levels.
        """
        chosen = self.with_preset(manifest)
        max_side = _UNLIMITED if chosen.pyramid == "full-resolution" else chosen.max_side
        classify = manifest.classify
        if classify is not None:
            classify = replace(classify, **_given(chosen, "class_nms_iou", "max_detections"))
        return replace(
            manifest,
            pyramid=replace(
                manifest.pyramid,
                max_side=max_side or manifest.pyramid.max_side,
                scales=_chosen_scales(chosen.scales, manifest),
            ),
            select=replace(
                manifest.select, **_given(chosen, "top_k", "window_nms_iou", "proposal_nms_iou")
            ),
            classify=classify,
        )


def _given(options: PipelineOptions, *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _chosen_scales(chosen: tuple[float, ...] | None, manifest: Manifest) -> tuple[float, ...]:
    """Return the scales of the manifest that were chosen, in its order."""
    pyramid, spec = manifest.pyramid, manifest.features
    if chosen is None:
        return pyramid.scales
    for scale in chosen:
        if not any(_is_same(scale, one) for one in pyramid.scales):
            raise OptionError(
                f"the bundle {manifest.name!r} has no level of the scale {scale:g}",
                remedy=f"use {', '.join(f'{one:g}' for one in pyramid.scales)}",
            )
    scales = tuple(one for one in pyramid.scales if any(_is_same(scale, one) for scale in chosen))
    if spec is not None and manifest.shares_trunk:
        # The network was exported for the longest level that its bundle asks it to read.
        most = longest_level(spec, pyramid)
        needed = longest_level(spec, replace(pyramid, scales=scales))
        if needed > most:
            raise OptionError(
                f"with the scales {', '.join(f'{one:g}' for one in scales)} the classifier would "
                f"read levels of up to {needed} pixels, and it can read {most}",
                remedy="add smaller levels, and levels between those more than a factor of 2 apart",
            )
    return scales


def _is_same(scale: float, other: float) -> bool:
    return abs(scale - other) <= _SAME_SCALE * other
