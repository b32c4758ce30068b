# SPDX-License-Identifier: Apache-2.0
"""Which layers of a stage can be INT8? Measured, not guessed.

The quantization error of an output is its mean squared error over the variance of its exact values, on all calls
together; a stage has that of its worst output. Each layer's own is measured with it alone in INT8.
Then all are, and while their error is too large the worst one is left out, and the rest is
measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foveate.arrays import Array
from foveate.export.execution.sessions import session_function
from foveate.export.precision.observation import Call
from foveate.export.precision.quantise import Quantiser


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a search found.

    Attributes:
        layers: in INT8, in the stage's order.
        left_out: the others' names, the worst first.
        quantization_error: of the stage with `layers` in INT8.
        alone: layer -> quantization error of the stage with it alone in INT8.
    """

    layers: tuple[str, ...]
    left_out: tuple[str, ...]
    quantization_error: float
    alone: dict[str, float]


def choose_layers(
    quantiser: Quantiser,
    candidates: Sequence[str],
    calls: Sequence[Call],
    most: float,
    tell: Callable[[int, int], None] | None = None,
) -> Choice:
    """Search.

    Args:
        quantiser: of the stage.
        candidates: names of layers, in the stage's order.
        calls: what the error is measured on.
        most: quantization error of the stage that is accepted.
        tell: is told the number of layers tried, and of all.
    """
    exact = session_function(quantiser.model)
    expected = [exact(call) for call in calls]

    def measured(names: Sequence[str]) -> float:
        own = session_function(quantiser.quantised(names))
        return quantization_error(expected, [own(call) for call in calls])

    alone = {}
    for number, name in enumerate(candidates):
        alone[name] = measured([name])
        if tell is not None:
            tell(number + 1, len(candidates))
    kept, left_out = list(candidates), list[str]()
    found = measured(kept)
    while kept and not found <= most:
        worst = max(kept, key=lambda name: alone[name])
        kept.remove(worst)
        left_out.append(worst)
        found = measured(kept) if kept else 0.0
    return Choice(
        layers=tuple(kept), left_out=tuple(left_out), quantization_error=found, alone=alone
    )


def quantization_error(
    expected: Sequence[Mapping[str, Array]], found: Sequence[Mapping[str, Array]]
) -> float:
    """Return the mean squared error over the variance, of the worst output.

    Args:
        expected: outputs by name, a mapping a call.
        found: the same.
    """
    worst = 0.0
    for name in expected[0]:
        pairs = [
            (one[name].astype(np.float64), other[name].astype(np.float64))
            for one, other in zip(expected, found, strict=True)
        ]
        error = sum(float(((one - other) ** 2).sum()) for one, other in pairs)
        number = sum(one.size for one, _ in pairs)
        mean = sum(float(one.sum()) for one, _ in pairs) / max(1, number)
        power = sum(float(((one - mean) ** 2).sum()) for one, _ in pairs)
        if not np.isfinite(error):
            return float("inf")
        if error:
            worst = max(worst, error / power if power else float("inf"))
    return worst
