# SPDX-License-Identifier: Apache-2.0
"""The page of results, from records of images."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foveate.plain_text import json_text
from foveate.results.overlay import COLORS, color

_FOLDER = Path(__file__).parent


def page(records: Iterable[Mapping[str, Any]] = (), *, live: bool = False) -> str:
    """Return an HTML page of results, which needs no other file.

    Args:
        records: One ``page_record`` per image.
        live: Whether the page takes images, sends them to ``v1/page`` of the server that it came
            from, and shows the records of the answers. Otherwise it needs no network.
    """
    return page_start(live=live) + "".join(map(page_entry, records)) + page_end(live=live)


def page_start(*, live: bool = False) -> str:
    """Return the part of a page before its records."""
    script = base64.b64encode(hashlib.sha256(_script(live).encode()).digest()).decode()
    text = _read("page.html").partition("<!-- records -->")[0]
    connections = "'self'" if live else "'none'"
    # Nothing can be loaded, and no other script can run.
    policy = (
        "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{script}'; connect-src {connections}; "
        "base-uri 'none'; form-action 'none'"
    )
    return text.replace("{{policy}}", policy).replace("{{style}}", _read("page.css"))


def page_entry(record: Mapping[str, Any]) -> str:
    """Return the part of a page that holds a record."""
    text = json_text(record, compact=True).strip()
    name, thumbnail = html.escape(record["name"]), html.escape(record["thumbnail"] or "")
    # Neither an end tag nor a comment can begin without this character.
    content = text.replace("<", "\\u003c")
    return (
        f'<script type="application/json" class="record" data-name="{name}" '
        f'data-thumbnail="{thumbnail}">{content}</script>\n'
    )


def page_end(*, live: bool = False) -> str:
    """Return the part of a page after its records."""
    # The colors of the overlays.
    colors = ["#{:02x}{:02x}{:02x}".format(*color(index)) for index in range(COLORS)]
    settings = json.dumps({"live": live, "colors": colors})
    text = _read("page.html").partition("<!-- records -->")[2]
    return text.replace("{{settings}}", settings).replace("{{script}}", _script(live))


def _script(live: bool) -> str:
    return _read("page.js") + (_read("live.js") if live else "")


def _read(name: str) -> str:
    return (_FOLDER / name).read_text("utf-8")
