# SPDX-License-Identifier: Apache-2.0
"""The choice of presets among the configurations of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from foveate.bench.sweep import networks_digest
from foveate.bench.sweep_record import FIGURES
from foveate.bundle import PresetMeasurement, PresetSpec, RelativeTime
from foveate.errors import InputError, OptionError
from foveate.typed_options import TypedOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foveate.bench.comparison import Ratio
    from foveate.bench.sweep_record import DatasetResult, Point, SweepRecord
    from foveate.bundle import Manifest

_DECISIVE = "AR@100"


@dataclass(frozen=True, kw_only=True)
class ChoiceOptions(TypedOptions):
    """How much accuracy a preset may cost.

    Args:
        balanced: Share of the average recall of ``accurate`` that ``balanced`` keeps at least, on
            each data set.
        fast: The same for ``fast``.
        partial: Whether to choose among the configurations of a sweep that was interrupted.

    Raises:
        OptionError: A share has the wrong type or lies outside its range.
    """

    balanced: float = 0.95
    fast: float = 0.8
    partial: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("balanced", "fast"):
            if not 0 < getattr(self, name) <= 1:
                value = getattr(self, name)
                raise OptionError(f"{name} must be above 0 and at most 1, found {value:g}")


def choose_presets(
    sweep: SweepRecord, manifest: Manifest, options: ChoiceOptions | None = None
) -> dict[str, PresetSpec]:
    """Return the presets of a bundle that follow from a sweep.

    ``accurate`` has the highest average recall of the 100 best proposals, as the mean over the data
    sets. ``balanced`` and ``fast`` are the fastest configurations that keep a share of it on each
    data set, so that no kind of images pays for another one.

    Raises:
        InputError: The sweep was interrupted, measured other networks, or has no average recall.
    """
    options = options or ChoiceOptions()
    points = _candidates(sweep, manifest, partial=options.partial)
    accurate = max(points, key=lambda one: (_mean_recall(one), -one.relative_time))
    shares = {"accurate": 1.0, "balanced": options.balanced, "fast": options.fast}
    chosen = {name: _fastest(points, accurate, share) for name, share in shares.items()}
    return {name: _preset(point, sweep, manifest) for name, point in chosen.items()}


def least_share(point: Point, other: Point) -> float:
    """Return the average recall of a configuration as a share of another one's, the least one."""
    pairs = [(_recall(one), _recall(other.datasets[name])) for name, one in point.datasets.items()]
    return min(own / reference if reference else 1.0 for own, reference in pairs)


def _candidates(sweep: SweepRecord, manifest: Manifest, *, partial: bool) -> list[Point]:
    """Return the points that differ from the default one in nothing but what a preset sets."""
    if sweep.interrupted and not (partial and sweep.points):
        raise InputError(
            f"the sweep was interrupted after {len(sweep.points)} of {sweep.planned} configurations",
            remedy="run it to its end, or choose among these with --partial",
        )
    if sweep.digest != networks_digest(manifest):
        raise InputError(
            f"the sweep measured other networks than those of the bundle {manifest.name!r}",
            remedy="run `foveate bench sweep` on this bundle",
        )
    first = sweep.points[0]
    if any(one.value(_DECISIVE) is None for one in first.datasets.values()):
        raise InputError(
            "a data set of the sweep has no average recall, since it has no objects",
            remedy="sweep with data sets that have objects",
        )
    same = first.configuration
    return [
        point
        for point in sweep.points
        if (one := point.configuration).bundle == same.bundle
        and (one.threads, one.max_in_flight) == (same.threads, same.max_in_flight)
    ]


def _fastest(points: Sequence[Point], accurate: Point, share: float) -> Point:
    """Return the fastest configuration that keeps a share of the recall on each data set."""
    kept = [point for point in points if least_share(point, accurate) >= share]
    return min(kept, key=lambda one: one.relative_time)


def _recall(result: DatasetResult) -> float:
    return result.value(_DECISIVE) or 0.0


def _mean_recall(point: Point) -> float:
    return fmean(_recall(one) for one in point.datasets.values())


def _preset(point: Point, sweep: SweepRecord, manifest: Manifest) -> PresetSpec:
    one, pyramid, select = point.configuration, manifest.pyramid, manifest.select
    return PresetSpec(
        scales=None if one.scales == pyramid.scales else one.scales,
        max_side=None if one.max_side == pyramid.max_side else one.max_side,
        top_k=None if one.top_k == select.top_k else one.top_k,
        window_nms_iou=None if one.window_nms_iou == select.window_nms_iou else one.window_nms_iou,
        relative_time=_relative(point.time),
        measured={
            name: PresetMeasurement(
                images=sweep.datasets[name].images,
                objects=sweep.datasets[name].objects,
                relative_time=_relative(result.time),
                figures=_stored(result),
            )
            for name, result in point.datasets.items()
        },
        conditions={
            "foveate": sweep.foveate,
            "created": sweep.created,
            "processor": sweep.machine.processor.name,
            "device": sweep.device,
            "backend": sweep.backend,
            "threads": "one per core" if one.threads is None else str(one.threads),
            "scenario": sweep.scenario,
            "configurations": f"{len(sweep.points)} of {sweep.planned}",
            "machine": "fit to publish" if sweep.machine.fit else "unfit to publish",
        },
    )


def _relative(time: Ratio | None) -> RelativeTime:
    """Return a relative time; the default configuration has one of 1 by definition."""
    if time is None:
        return RelativeTime(value=1.0, low=1.0, high=1.0)
    return RelativeTime(**{k: round(getattr(time, k), 4) for k in ("value", "low", "high")})


def _stored(result: DatasetResult) -> dict[str, float]:
    """Return the figures of a preset that have objects, rounded."""
    values = {f"{result.region} {name}": result.value(name) for name in FIGURES}
    return {name: round(value, 4) for name, value in values.items() if value is not None}
