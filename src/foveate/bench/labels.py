# SPDX-License-Identifier: Apache-2.0
"""The name of what a record measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.bench.record import Record


def label_of(record: Record) -> str:
    """Return the name of what a record measured."""
    subject = record.subject
    if subject.server is not None:
        return f"{subject.bundle} of {subject.server.metadata.name} at {subject.server.url}"
    precisions = "/".join(sorted(set(subject.precision.values())))
    threads = ""
    if subject.threads is not None:
        threads = f", {subject.threads} thread{'' if subject.threads == 1 else 's'}"
    preset = f", preset {subject.options['preset']}" if "preset" in subject.options else ""
    return f"{subject.bundle} {precisions}, {subject.backend} on {subject.device}{threads}{preset}"
