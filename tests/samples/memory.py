# SPDX-License-Identifier: Apache-2.0
"""The memory of processes."""

from __future__ import annotations

import resource
from pathlib import Path


def resident_bytes(process: int | str = "self") -> int:
    """Return the bytes of a process that are in the memory of the machine."""
    pages = Path(f"/proc/{process}/statm").read_text("ascii").split()[1]
    return int(pages) * resource.getpagesize()
