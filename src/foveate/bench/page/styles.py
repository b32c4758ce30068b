# SPDX-License-Identifier: Apache-2.0
"""The color of each kind of work, the same in all charts of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from foveate.bench.record import Record
    from foveate.bench.samples import Span

_COLORS = 6  # of networks, in the style sheet
OPERATION, HOST, WAIT, IDLE = "operation", "host", "wait", "idle"


class Styles:
    """The style of each network, operation and call of a record.

    Args:
        record: The record, whose networks get colors in the order of their times.
    """

    def __init__(self, record: Record) -> None:
        self._networks = {name: f"c{n % _COLORS}" for n, name in enumerate(record.stages)}

    def of(self, kind: str, name: str) -> str:
        """Return the style of a piece of work; see ``Span`` for the kinds."""
        if kind == "network":
            return self._networks.get(name, OPERATION)
        return {"operation": OPERATION, "wait": WAIT, "idle": IDLE}.get(kind, HOST)

    def legend(self, spans: Iterable[Span]) -> list[tuple[str, str]]:
        """Return the entries of a legend for some spans: styles and names."""
        kinds = {(one.kind, one.name) for one in spans}
        entries = [
            (style, name) for name, style in self._networks.items() if ("network", name) in kinds
        ]
        groups = {self.of(kind, name) for kind, name in kinds}
        names = {OPERATION: "operations", HOST: "calling thread", WAIT: "waiting for the work"}
        return entries + [(style, text) for style, text in names.items() if style in groups]
