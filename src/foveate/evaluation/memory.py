# SPDX-License-Identifier: Apache-2.0
"""The largest resident size of this process since a moment of our choosing."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def reset_peak_memory() -> None:
    """Forget earlier peaks, where the kernel allows it; elsewhere they stay counted."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_memory() -> int:
    """Largest resident size in bytes since the last reset; 0 where it cannot be known."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return _peak_of_the_process()
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else _peak_of_the_process()


def _peak_of_the_process() -> int:
    try:
        import resource  # noqa: PLC0415 - Windows has no such module
    except ImportError:
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux and the BSDs count in KiB, macOS in bytes.
    return largest if sys.platform == "darwin" else largest * 1024
