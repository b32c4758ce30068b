# SPDX-License-Identifier: Apache-2.0
"""A table of objects in HTML, which notebooks show."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from foveate.arrays import Float32Array
from foveate.plain_text import printable
from foveate.results.overlay import color

_ROWS = 20


def html_table(
    title: str, names: Sequence[str] | None, scores: Float32Array, boxes: Float32Array
) -> str:
    """Return a table with a row per object, in the colors of the overlay; at most 20 rows.

    Args:
        title: Text above the table.
        names: N class names, or None for objects without classes.
        scores: (N,) float32.
        boxes: (N, 4) float32 xyxy in pixels of the image.
    """
    columns = ["", *(["class"] if names is not None else []), "score", "x0", "y0", "x1", "y1"]
    lines = [_row("th", [escape(column) for column in columns])]
    for index, (score, box) in enumerate(zip(scores[:_ROWS], boxes[:_ROWS], strict=True)):
        chip = '<span style="color:rgb({},{},{})">&#9632;</span>'.format(*color(index))
        name = [escape(printable(names[index]))] if names is not None else []
        cells = [f"{chip} {index}", *name, f"{score:.3f}", *(f"{value:.1f}" for value in box)]
        lines.append(_row("td", cells))
    more = len(scores) - _ROWS
    rest = f"<p>and {more} more</p>" if more > 0 else ""
    return f"<p>{escape(title)}</p><table>{''.join(lines)}</table>{rest}"


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"
