# SPDX-License-Identifier: Apache-2.0
"""How many replicas a rate of images needs, and what they cost, from the record of a benchmark.

A replica is a pipeline, or a server, on a machine like the one that was measured. What it can do is
the highest rate that held a bound of the 99th percentile under Poisson arrivals; the mean latency
says nothing about waiting. If each request goes to one of M replicas at random, the arrivals at each
are a Poisson process with the M-th part of the rate, so that M replicas hold M times the rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import TYPE_CHECKING

from foveate.errors import OptionError

if TYPE_CHECKING:
    from foveate.bench.record import Record

_SECONDS_PER_HOUR = 3600
_REMEDY = "measure with `--scenario server --p99 SECONDS`, or with `--scenario offline` for batches"


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """What a rate of images takes.

    Args:
        subject: Name of what was measured.
        p99: Bound of the 99th percentile of the latency that each replica holds, in seconds; null
            for batches, where nobody waits for a single image.
        capacity: Images per second of one replica.
        rate: Images per second that are wanted; null if a single replica is described.
        replicas: Number of replicas for the rate.
        utilization: Share of the capacity of all replicas that the rate uses.
        cost_per_hour: Price of all replicas per hour; null without a price.
        cost_per_million: Price of a million images at this rate, with the time in which replicas are
            idle; null without a price.
    """

    subject: str
    p99: float | None
    capacity: float
    rate: float | None
    replicas: int
    utilization: float
    cost_per_hour: float | None
    cost_per_million: float | None


def size(record: Record, *, rate: float | None, price_per_hour: float | None) -> Sizing:
    """Return how many replicas a rate needs, and their price.

    Args:
        record: Record of the scenario ``"server"`` with a search for the rate, or of ``"offline"``.
        rate: Images per second that are wanted; ``None`` for what one replica can do.
        price_per_hour: Price of one replica per hour, in any currency; ``None`` for no price.

    Raises:
        OptionError: The rate or the price is not above 0 and finite, or the record has no capacity.
    """
    for name, value in (("--rate", rate), ("--price-per-hour", price_per_hour)):
        if value is not None and not 0 < value < inf:
            raise OptionError(f"{name} must be above 0 and finite, found {value:g}")
    capacity, p99 = _capacity(record)
    wanted = capacity if rate is None else rate
    # The quotient by a whole part of the rate may be slightly above a whole number.
    replicas = max(1, ceil(wanted / capacity - 1e-9))
    per_hour = None if price_per_hour is None else replicas * price_per_hour
    return Sizing(
        subject=record.subject.label,
        p99=p99,
        capacity=capacity,
        rate=rate,
        replicas=replicas,
        utilization=wanted / (replicas * capacity),
        cost_per_hour=per_hour,
        cost_per_million=None
        if per_hour is None
        else 1e6 * per_hour / (wanted * _SECONDS_PER_HOUR),
    )


def size_all(
    records: Sequence[Record], *, rate: float | None, prices: Sequence[float]
) -> list[Sizing]:
    """Return the sizes by several records, with no price, one for all, or one per record.

    Raises:
        OptionError: See :func:`size`; or the number of prices is another one.
    """
    if len(prices) not in (0, 1, len(records)):
        raise OptionError(
            f"--price-per-hour is given {len(prices)} times for {len(records)} records",
            remedy="pass it once, or once per record in their order",
        )
    each = list(prices) if len(prices) == len(records) else [*prices, None][:1] * len(records)
    return [
        size(record, rate=rate, price_per_hour=price)
        for record, price in zip(records, each, strict=True)
    ]


def _capacity(record: Record) -> tuple[float, float | None]:
    """Return the images per second of a replica, and the bound that it holds."""
    name, search = record.subject.label, record.search
    if search is not None:
        if search.rate is None:
            raise OptionError(
                f"no rate held a 99th percentile of {search.bound:g} s when {name} was measured",
                remedy="measure with a larger --p99",
            )
        return search.rate, search.bound
    if record.scenario.name != "offline":
        what = f"the record of {name} in the scenario {record.scenario.name} has no highest rate"
        raise OptionError(what, remedy=_REMEDY)
    if not record.outcome.throughput:
        raise OptionError(f"no image was finished when {name} was measured", remedy=_REMEDY)
    return record.outcome.throughput, None
