# SPDX-License-Identifier: Apache-2.0
"""Options of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveate.bench.percentiles import fewest_runs
from foveate.errors import OptionError
from foveate.typed_options import TypedOptions

_SECONDS = 30.0  # default of a run


@dataclass(frozen=True, kw_only=True)
class BenchOptions(TypedOptions):
    """Options of a benchmark.

    Args:
        scenario: ``"single-stream"`` sends an image when the result of the last one is there;
            ``"offline"`` has all images ready and keeps the pipeline full; ``"server"`` sends them
            at the moments of a Poisson process, whether or not the pipeline keeps up.
        seconds: Longest time of the measurement, without warm-up and floor; ``None`` for 30. With
            ``p99``: longest time in which the images of a rate arrive; ``None`` for no limit.
        count: Number of images after which the measurement ends, whatever the time and the
            percentile; ``None`` for no such number. With ``p99``: number of images per rate;
            ``None`` for the fewest that support a 99th percentile.
        warm_up: Shortest time of the warm-up in seconds. It also lasts until each size of image was
            processed as often as images are in flight.
        percentile: Percentile of the latency that ends the run when it is stable, above 0 and below
            100.
        tolerance: Width of its confidence interval, as a share of it, that counts as stable; 0
            measures until the time is over.
        rate: With ``"server"``: mean number of arrivals per second.
        p99: With ``"server"``: bound of the 99th percentile of the latency, in seconds, for which
            the highest rate is searched; ``rate`` then is the first rate that is tried.
        seed: Seed of the schedule.
        decoding: Whether the latency includes reading the image files, which are otherwise in
            memory before the run.
        keep_spans: Whether the work of every image is kept for a trace.
        nvtx: Whether the work is shown to a profiler in ranges of NVTX. The work of each
            image is then enqueued again on a GPU, which takes longer than to replay a graph.

    Raises:
        OptionError: A value has the wrong type or lies outside its range, or two do not fit.
    """

    scenario: Literal["single-stream", "offline", "server"] = "single-stream"
    seconds: float | None = None
    count: int | None = None
    warm_up: float = 1.0
    percentile: float = 90.0
    tolerance: float = 0.05
    rate: float | None = None
    p99: float | None = None
    seed: int = 0
    decoding: bool = False
    keep_spans: bool = False
    nvtx: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("seconds", "rate", "p99"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise OptionError(f"{name} must be above 0, found {value:g}")
        self._check_at_least(count=1, warm_up=0, tolerance=0, seed=0)
        if not 0 < self.percentile < 100:
            raise OptionError(f"percentile must lie between 0 and 100, found {self.percentile:g}")
        self._check_server()

    @property
    def time_limit(self) -> float:
        """Longest time of a run in seconds that no number of images ends."""
        return _SECONDS if self.seconds is None else self.seconds

    def _check_server(self) -> None:
        given = [name for name in ("rate", "p99") if getattr(self, name) is not None]
        if self.scenario != "server" and given:
            raise OptionError(
                f"{given[0]} belongs to the scenario 'server', found {self.scenario!r}",
                remedy="pass --scenario server, or omit the option",
            )
        if self.scenario == "server" and not given:
            raise OptionError(
                "the scenario 'server' needs a rate of arrivals, or a bound to search one for",
                remedy="pass --rate IMAGES_PER_SECOND, or --p99 SECONDS",
            )
        fewest = fewest_runs(99)
        if self.p99 is not None and self.count is not None and self.count < fewest:
            raise OptionError(
                f"the 99th percentile needs {fewest} images per rate, found a count of {self.count}",
                remedy=f"pass --count {fewest} or more, or omit it",
            )
