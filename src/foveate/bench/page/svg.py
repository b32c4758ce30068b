# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG: axes, lines, bands, points, bars and labels.

Positions from left to right are shares of the width, and those from top to bottom are pixels. So a
chart fits windows of all widths without a script, and its text keeps its size. Lines are drawn in a
coordinate system that is stretched to the width; everything else is placed by percentages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from foveate.bench.page.markup import safe
from foveate.bench.page.scales import Scale

_WIDTH = 1000  # of the stretched coordinate system
_LABEL_HEIGHT = 14  # pixels between the baselines of two labels


class Chart:
    """A chart, to which marks are added from the back to the front.

    Args:
        name: What it shows, for screen readers.
        height: Height of the plot in pixels, without the labels of its axes.
        x: Scale from left to right.
        y: Scale from bottom to top; None for a chart of rows.
    """

    def __init__(self, name: str, *, height: int, x: Scale, y: Scale | None = None) -> None:
        self._name, self._height, self._x, self._y = name, height, x, y
        self._marks: list[str] = []
        self._kind = "rows" if y is None else "axes"  # the margins, in the style sheet

    def x_axis(self, text_of: Callable[[float], str], title: str = "") -> None:
        """Add the horizontal axis: a line per tick, with its label below."""
        self._kind += " ruled"
        for tick in self._x.ticks:
            x = self._left(tick)
            self._add(f'<line class="grid" x1="{x}" x2="{x}" y2="{self._height}"/>')
            self._text(x, self._height + 18, text_of(tick), "middle")
        if title:
            self._text("100%", self._height + 36, title, "end")

    def y_axis(self, text_of: Callable[[float], str], title: str) -> None:
        """Add the vertical axis: a line per tick, with its label to the left."""
        assert self._y is not None
        for tick in self._y.ticks:
            y = self._top(tick)
            self._add(f'<line class="grid" x2="100%" y1="{y}" y2="{y}"/>')
            self._add(f'<text x="-8" y="{y}" dy="4" class="end">{safe(text_of(tick))}</text>')
        self._text("-50", -12, title, "title")

    def line(self, points: Iterable[tuple[float, float]], style: str, title: str) -> None:
        """Add a line through points."""
        path = "L".join(f"{self._stretched(x)} {self._top(y)}" for x, y in points)
        self._stretch(f'<path class="line {style}" d="M{path}">{_title(title)}</path>')

    def band(self, points: Sequence[tuple[float, float, float]], style: str) -> None:
        """Add the area between two lines, given as position, lower and upper value."""
        there = [f"{self._stretched(x)} {self._top(high)}" for x, _, high in points]
        back = [f"{self._stretched(x)} {self._top(low)}" for x, low, _ in reversed(points)]
        self._stretch(f'<path class="band {style}" d="M{"L".join([*there, *back])}Z"/>')

    def cloud(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """Add many small points, in a few bytes each and without titles."""
        path = "".join(f"M{self._stretched(x)} {self._top(y)}h0" for x, y in points)
        self._stretch(f'<path class="cloud {style}" d="{path}"/>')

    def dot(self, x: float, y: float, style: str, title: str) -> None:
        """Add a point."""
        self._circle(x, y, f"dot {style}", 4.5, title)

    def ring(self, x: float, y: float, style: str, title: str) -> None:
        """Add a circle around a point."""
        self._circle(x, y, f"ring {style}", 6, title)

    def segment(
        self, start: tuple[float, float], end: tuple[float, float], style: str, title: str = ""
    ) -> None:
        """Add a straight line between two points."""
        (x1, y1), (x2, y2) = ((self._left(x), self._top(y)) for x, y in (start, end))
        where = f'x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"'
        self._add(f'<line class="rule {style}" {where}>{_title(title)}</line>')

    def rect(
        self, start: float, end: float, *, top: float, height: float, style: str, title: str = ""
    ) -> None:
        """Add a rectangle in a row.

        Args:
            start: Value at its left edge.
            end: Value at its right edge.
            top: Pixels from the top of the plot.
            height: Height in pixels.
            style: Classes of the style sheet.
            title: Text that is shown while the pointer is on it.
        """
        left, right = self._x.share(start), self._x.share(end)
        where = f'x="{_percent(left)}" y="{top:g}" width="{_percent(right - left)}"'
        self._add(f'<rect class="{style}" {where} height="{height:g}">{_title(title)}</rect>')

    def row_label(self, top: float, name: str, figure: str = "") -> None:
        """Add the name of a row at its left, and a figure at its right."""
        self._text("0", top, name, "name")
        if figure:
            self._text("100%", top, figure, "end")

    def margin_labels(self, labels: Iterable[tuple[float, str]]) -> None:
        """Add labels to the right of the plot, as values and texts, so that none covers another one."""
        ordered = sorted(labels, reverse=True)
        tops = spread([self._top(value) + 4 for value, _ in ordered])
        for (_, text), top in zip(ordered, tops, strict=True):
            self._text("100%", top, text, "beside")
        self._kind += " labeled"

    def svg(self) -> str:
        """Return the chart as an element of HTML."""
        return (
            f'<div class="chart {self._kind}"><svg role="img" aria-label="{safe(self._name)}" '
            f'width="100%" height="{self._height}">{"".join(self._marks)}</svg></div>'
        )

    def _add(self, mark: str) -> None:
        self._marks.append(mark)

    def _circle(self, x: float, y: float, style: str, radius: float, title: str) -> None:
        where = f'cx="{self._left(x)}" cy="{self._top(y)}"'
        self._add(f'<circle class="{style}" {where} r="{radius}">{_title(title)}</circle>')

    def _stretch(self, path: str) -> None:
        self._add(
            f'<svg width="100%" height="{self._height}" viewBox="0 0 {_WIDTH} {self._height}" '
            f'preserveAspectRatio="none">{path}</svg>'
        )

    def _text(self, x: str, y: float, text: str, style: str) -> None:
        self._add(f'<text x="{x}" y="{y:g}" class="{style}">{safe(text)}</text>')

    def _left(self, x: float) -> str:
        return _percent(self._x.share(x))

    def _stretched(self, x: float) -> str:
        return f"{_WIDTH * self._x.share(x):.1f}".removesuffix(".0")

    def _top(self, y: float) -> float:
        assert self._y is not None
        return round(self._height * (1 - self._y.share(y)), 1)


def spread(tops: Sequence[float]) -> list[float]:
    """Return increasing positions of labels moved apart, downwards, as far as text needs it."""
    moved: list[float] = []
    for top in tops:
        moved.append(max(top, moved[-1] + _LABEL_HEIGHT) if moved else top)
    return moved


def _percent(share: float) -> str:
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"


def _title(text: str) -> str:
    return f"<title>{safe(text)}</title>" if text else ""
