# SPDX-License-Identifier: Apache-2.0
"""Options of a sweep, and the configurations that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from foveate.bench.ratios import FEWEST_BLOCKS
from foveate.errors import OptionError
from foveate.runtime import PipelineOptions
from foveate.typed_options import TypedOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foveate.bundle import Manifest


@dataclass(frozen=True, kw_only=True)
class SweepOptions(TypedOptions):
    """Options of a sweep: the values to combine, and how they are measured.

    Args:
        scales: Scales of the levels, one choice each; None is all levels. If empty, all levels, all
            but the finest, every second one from the second finest on, and these but the finest.
        top_k: Numbers of windows to refine; if empty, that of the bundle and half of it.
        max_side: Longer sides of the working image; if empty, that of the bundle.
        window_nms_iou: Overlaps of windows above which the lower one is dropped; if empty, that of
            the bundle.
        threads: Numbers of threads per network; None is the default of the backend.
        max_in_flight: Numbers of images that are processed at a time.
        scenario: Scenario of the timing.
        turns: Number of turns of each configuration and of the default one.
        timed: Number of images of each data set that are timed.

    Raises:
        OptionError: A value has the wrong type or lies outside its range, or two do not fit.
    """

    scales: tuple[tuple[float, ...] | None, ...] = ()
    top_k: tuple[int, ...] = ()
    max_side: tuple[int, ...] = ()
    window_nms_iou: tuple[float, ...] = ()
    threads: tuple[int | None, ...] = (None,)
    max_in_flight: tuple[int, ...] = (2,)
    scenario: Literal["single-stream", "offline"] = "single-stream"
    turns: int = 10
    timed: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        # Each turn is a block of the comparison.
        self._check_at_least(turns=FEWEST_BLOCKS, timed=1)
        for name in ("threads", "max_in_flight"):
            if not getattr(self, name):
                raise OptionError(f"{name} must have at least one value, found none")
        if self.scenario == "single-stream" and len(self.max_in_flight) > 1:
            raise OptionError(
                "max_in_flight changes nothing in the scenario 'single-stream', found "
                f"{len(self.max_in_flight)} values",
                remedy="use the scenario 'offline', or one value",
            )

    @property
    def default(self) -> PipelineOptions:
        """The default configuration: that of the bundle, with the first of the other values."""
        return PipelineOptions(threads=self.threads[0], max_in_flight=self.max_in_flight[0])

    def configurations(self, manifest: Manifest) -> list[PipelineOptions]:
        """Return all combinations of the values for a bundle, without repetitions.

        Raises:
            OptionError: A value lies outside its range, or the bundle has no such levels.
        """
        pyramid, select = manifest.pyramid, manifest.select
        scales = self.scales or tuple(_default_scales(manifest))
        values = {
            "scales": scales,
            "top_k": self.top_k or (select.top_k, max(1, select.top_k // 2)),
            "max_side": self.max_side or (pyramid.max_side,),
            "window_nms_iou": self.window_nms_iou or (select.window_nms_iou,),
            "threads": self.threads,
            "max_in_flight": self.max_in_flight,
        }
        found: dict[PipelineOptions, None] = {}
        for one in product(*values.values()):
            chosen: dict[str, Any] = dict(zip(values, one, strict=True))
            applied = PipelineOptions(**chosen).applied_to(manifest).pyramid
            # Scales are written as those of the bundle, so that repetitions are found.
            found[PipelineOptions(**chosen | {"scales": applied.scales})] = None
        return list(found)


def _default_scales(manifest: Manifest) -> Iterator[tuple[float, ...]]:
    """Yield choices of levels that leave out more and more of them."""
    scales = tuple(sorted(manifest.pyramid.scales))
    every_second = scales[-2::-2][::-1]
    yield scales
    for chosen in (scales[:-1], every_second, every_second[:-1]):
        if chosen and _can_use(chosen, manifest):
            yield chosen


def _can_use(scales: tuple[float, ...], manifest: Manifest) -> bool:
    try:
        PipelineOptions(scales=scales).applied_to(manifest)
    except OptionError:
        return False
    return True
