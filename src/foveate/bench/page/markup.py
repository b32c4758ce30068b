# SPDX-License-Identifier: Apache-2.0
"""Pieces of HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from foveate.plain_text import printable


def safe(text: object) -> str:
    """Return text as HTML that shows it; control characters are escaped."""
    return escape(printable(str(text)))


def code(text: str) -> str:
    """Return a command or a name as HTML."""
    return f"<code>{safe(text)}</code>"


def strong(text: str) -> str:
    """Return a text as emphasized HTML."""
    return f"<b>{safe(text)}</b>"


def paragraph(text: str, style: str = "") -> str:
    """Return a paragraph of plain text."""
    return f"<p{_class(style)}>{safe(text)}</p>"


def section(anchor: str, title: str, *content: str) -> str:
    """Return a part of the page with a heading; the content is HTML."""
    body = "\n".join(one for one in content if one)
    return f'<section id="{anchor}"><h2>{safe(title)}</h2>\n{body}\n</section>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> str:
    """Return a table of plain texts.

    Args:
        head: Names of the columns.
        rows: The cells.
        texts: Number of columns at the left with texts; the others have numbers.
    """
    columns = "".join(
        f"<th scope=col{_number(n, texts)}>{safe(one)}</th>" for n, one in enumerate(head)
    )
    lines = []
    for row in rows:
        first = f"<th scope=row>{safe(row[0])}</th>"
        others = (f"<td{_number(n, texts)}>{safe(cell)}</td>" for n, cell in enumerate(row) if n)
        lines.append(f"<tr>{first}{''.join(others)}</tr>")
    return (
        f'<div class="scroll" role="region" aria-label="{safe(", ".join(head))}" tabindex="0"><table><thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names and values as a list."""
    rows = "".join(
        f"<div><dt>{safe(name)}</dt><dd>{safe(value)}</dd></div>" for name, value in pairs
    )
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def bullets(items: Iterable[str]) -> str:
    """Return a list; the items are HTML."""
    rows = "".join(f"<li>{item}</li>" for item in items)
    return f"<ul>{rows}</ul>" if rows else ""


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Return the legend of a chart from styles and plain texts."""
    items = (f'<li><i class="{style}"></i>{safe(text)}</li>' for style, text in entries)
    return f'<ul class="legend">{"".join(items)}</ul>'


def details(summary: str, content: str) -> str:
    """Return HTML that is shown when its summary is opened."""
    return f"<details><summary>{safe(summary)}</summary>{content}</details>"


def _number(column: int, texts: int) -> str:
    return ' class="n"' if column >= texts else ""


def _class(style: str) -> str:
    return f' class="{style}"' if style else ""
