# SPDX-License-Identifier: Apache-2.0
"""The slowest images of a run, and what they have in common."""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING

import numpy as np

from foveate.bench.samples import Tail, Tails, Trait

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from foveate.bench.collecting import Collection, Row
    from foveate.bench.record import Input

# A property is named if it is that improbable among the slowest images by chance.
_CHANCE = 0.01
_PARTS = 5  # that are listed for an image


def describe_tails(collection: Collection, inputs: Sequence[Input]) -> Tails:
    """Return the slowest images with their traces, and what they have in common."""
    measured, slowest = collection.measured, collection.slowest
    medians = _medians([_parts(row) for row in measured])
    excesses = [_excess(collection.rows[index], medians) for index in slowest]
    total = {
        name: sum(one.get(name, 0.0) for one in excesses)
        for name in {name for one in excesses for name in one}
    }
    whole = sum(total.values())
    return Tails(
        slowest=tuple(
            Tail(
                sample=index,
                input=(sample := collection.rows[index].sample).index,
                latency=sample.latency,
                excess=_largest(excess),
                trace=collection.spans([index], sample.start),
            )
            for index, excess in zip(slowest, excesses, strict=True)
        ),
        common=tuple(_common(measured, [collection.rows[index] for index in slowest], inputs)),
        excess=_largest({name: part / whole for name, part in total.items()} if whole else {}),
    )


def _parts(row: Row) -> dict[str, float]:
    """Return the parts of the latency of an image by name."""
    part = row.division
    named = {
        "waiting": row.sample.start - row.sample.arrival,
        "reading": part.reading,
        "copies": part.copies,
        "host": part.host,
        "enqueue": part.enqueue,
        # The recorded work, where there is some, is more specific.
        "waiting for the result": part.waiting if part.device is None else None,
        **part.stages,
        **part.operations,
    }
    return {name: value for name, value in named.items() if value is not None}


def _medians(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    names = {name for one in parts for name in one}
    return {name: float(np.median([one.get(name, 0.0) for one in parts])) for name in names}


def _excess(row: Row, medians: dict[str, float]) -> dict[str, float]:
    """Return what each part took beyond its median, of those that took more."""
    parts = _parts(row)
    beyond = {name: value - medians[name] for name, value in parts.items()}
    return {name: value for name, value in beyond.items() if value > 0}


def _largest(parts: dict[str, float]) -> dict[str, float]:
    return dict(sorted(parts.items(), key=lambda one: -one[1])[:_PARTS])


def _common(
    rows: Sequence[Row], slowest: Sequence[Row], inputs: Sequence[Input]
) -> Iterator[Trait]:
    """Yield the properties that are more frequent among the slowest than chance explains."""
    seen = set()
    for text, members in _properties(rows, inputs).items():
        among = sum(id(row) in members for row in slowest)
        chance = _at_least(among, len(slowest), len(members), len(rows))
        if 2 * among <= len(slowest) or chance > _CHANCE or frozenset(members) in seen:
            continue
        seen.add(frozenset(members))
        yield Trait(text=text, tail_share=among / len(slowest), share=len(members) / len(rows))


def _properties(rows: Sequence[Row], inputs: Sequence[Input]) -> dict[str, set[int]]:
    """Return the rows that have each property, by its text."""
    found: dict[str, set[int]] = {}
    busy = [row.switches for row in rows if row.switches is not None]
    many = float(np.percentile(busy, 90)) if busy else float("inf")
    for position, row in enumerate(rows):
        one = inputs[row.sample.index]
        texts = [
            f"size {one.width}x{one.height}",
            f"image {one.name}",
            f"worker {row.sample.worker}",
        ]
        if row.sample.start - row.sample.arrival > row.sample.latency / 2:
            texts.append("waited for more than half of its time")
        if row.switches is not None and row.switches > many:
            texts.append("more context switches than nine of ten images")
        if 10 * position < len(rows):
            texts.append("in the first tenth of the run")
        if 10 * position >= 9 * len(rows):
            texts.append("in the last tenth of the run")
        for text in texts:
            found.setdefault(text, set()).add(id(row))
    return found


def _at_least(found: int, drawn: int, members: int, total: int) -> float:
    """Return the chance of at least ``found`` members among ``drawn`` of ``total`` rows."""
    ways = sum(
        comb(members, k) * comb(total - members, drawn - k)
        for k in range(found, min(drawn, members) + 1)
    )
    return ways / comb(total, drawn)
