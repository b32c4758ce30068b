# SPDX-License-Identifier: Apache-2.0
"""Wrong values for the fields of a JSON document."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

Path = tuple[str | int, ...]
REMOVED = object()


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


WRONG: tuple[Any, ...] = (
    *(
        REMOVED,
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        3,
        16,
        17,
        255,
        4096,
        65536,
        1 << 31,
        1 << 63,
        10**18,
    ),
    *(10**400, -(10**400), 0.0, -0.0, 0.5, 1.5, 1e-300, 1e38, 1e308, -1e308),
    *(float("nan"), float("inf"), float("-inf"), "", " ", "x", "\0", "\ud800", "\x1b[31m", "1"),
    *(
        "x" * 100_000,
        "../x",
        "/dev/zero",
        "map_0",
        "horizontal_9",
        "\u202eabc",
        "logits",
        "float16",
    ),
    *(
        [],
        {},
        [[]],
        {"": ""},
        [None],
        {"a": 1},
        [1, 2, 3, 4, 5],
        ["x", "x"],
        nested(60),
        nested(300),
    ),
)


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Yield the path of every value in a document, containers before their contents."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield (*at, key)
        yield from paths(item, (*at, key))


def with_value(document: Any, path: Path, value: Any) -> Any:
    """Return a copy with another value at a path, or without that path."""
    changed = copy.copy(document)
    inside = changed
    for key in path[:-1]:
        inside[key] = copy.copy(inside[key])
        inside = inside[key]
    if value is REMOVED:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return changed


def random_change(document: Any, rng: np.random.Generator) -> Any:
    """Return a copy with one random change: a wrong value, a value moved, repeated or scaled."""
    places = list(paths(document))
    path = places[rng.integers(len(places))]
    kind = rng.integers(4)
    if kind == 0:
        return with_value(document, path, value_at(document, places[rng.integers(len(places))]))
    value = value_at(document, path)
    if kind == 1 and isinstance(value, list) and value:
        return with_value(document, path, value * int(rng.integers(2, 400)))
    if kind == 2 and isinstance(value, (int, float)) and not isinstance(value, bool):
        factor = float(rng.choice([-1, 0.1, 0.5, 2, 3, 10, 1000]))
        return with_value(document, path, type(value)(value * factor))
    return with_value(document, path, WRONG[rng.integers(len(WRONG))])


def value_at(document: Any, path: Path) -> Any:
    for key in path:
        document = document[key]
    return document
