# SPDX-License-Identifier: Apache-2.0
"""What a client can choose per request: which of the results it is sent."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from foveate.results.detections import Detections, Proposals
from foveate.serve.errors import RequestError

Results = TypeVar("Results", Detections, Proposals)

# Python also takes underscores, spaces and the digits of other scripts.
_NUMBER = re.compile(r"[-+.0-9eE]+")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a request.

    Args:
        name: Its name.
        kind: ``float`` or ``int``.
        low: Smallest value.
        high: Largest value; None for none.
        text: Description.
    """

    name: str
    kind: type[float] | type[int]
    low: float
    high: float | None
    text: str

    def schema(self) -> dict[str, object]:
        """Return its JSON Schema."""
        kind = "number" if self.kind is float else "integer"
        high = {} if self.high is None else {"maximum": self.high}
        return {"type": kind, "minimum": self.low, **high}

    def read(self, value: object) -> float:
        """Return a value of a query or of a JSON document as a number.

        Raises:
            RequestError: It is not one, or out of range.
        """
        try:
            if isinstance(value, bool) or not isinstance(value, (str, int, float)):
                raise ValueError
            if isinstance(value, str) and not _NUMBER.fullmatch(value):
                raise ValueError
            number = self.kind(value)
            if isinstance(value, float) and number != value:  # `int` cuts off fractions
                raise ValueError
            if not self.low <= number <= (math.inf if self.high is None else self.high):
                raise ValueError
        except (ValueError, OverflowError):
            kind = "a number" if self.kind is float else "an integer"
            low = f"{self.low:g}"
            values = f"of {low} or more" if self.high is None else f"from {low} up to {self.high:g}"
            raise RequestError(
                400,
                expected=f"{kind} {values} as {self.name}",
                found=f"{value!r:.60}",
                remedy="correct the parameter, or omit it",
            ) from None
        return number


SCORE_THRESHOLD = Parameter(
    name="score_threshold", kind=float, low=0, high=1, text="Smallest score of a result."
)
MAX_DETECTIONS = Parameter(
    name="max_detections", kind=int, low=1, high=None, text="Largest number of objects."
)
MAX_PROPOSALS = Parameter(
    name="max_proposals", kind=int, low=1, high=None, text="Largest number of proposals."
)
OF_OBJECTS = (SCORE_THRESHOLD, MAX_DETECTIONS)
OF_PROPOSALS = (SCORE_THRESHOLD, MAX_PROPOSALS)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which results a client requests.

    Args:
        score_threshold: Smallest score.
        most: Largest number of results; None for all.
    """

    score_threshold: float
    most: int | None

    @classmethod
    def read(
        cls,
        given: Mapping[str, object],
        known: tuple[Parameter, ...],
        *,
        threshold: float = 0.0,
        floor: float = 0.0,
    ) -> Selection:
        """Return the selection that the parameters of a request make.

        Args:
            given: Values by name, of a query or of a JSON document.
            known: The parameters that the route has.
            threshold: Smallest score if none is given.
            floor: Smallest score that the pipeline returns.

        Raises:
            RequestError: A parameter is unknown or out of range.
        """
        by_name = {one.name: one for one in known}
        values = {}
        for name, value in given.items():
            if name not in by_name:
                raise RequestError(
                    400,
                    expected=f"the parameters {', '.join(by_name)}",
                    found=f"{name!r:.60}",
                    remedy="omit it; other options are those of the server",
                )
            values[name] = by_name[name].read(value)
        threshold = values.pop(SCORE_THRESHOLD.name, threshold)
        if threshold < floor:
            raise RequestError(
                400,
                expected=f"a score_threshold of at least {floor:g}",
                found=f"{threshold:g}",
                remedy="raise it, or start the server with a lower --score-threshold",
            )
        most = next(iter(values.values()), None)
        return cls(score_threshold=threshold, most=None if most is None else int(most))

    def of(self, results: Results) -> Results:
        """Return the results that are wanted, best first."""
        return results[results.scores >= self.score_threshold][: self.most]
