# SPDX-License-Identifier: Apache-2.0
"""Number of processor cores that this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil, inf
from pathlib import Path


def usable_cores() -> int:
    """Return the number of cores that the affinity mask and the control group allow, at least 1.

    A fractional quota is rounded up, as in the runtimes of Go and Java.
    """
    mask = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return min(len(mask) or os.cpu_count() or 1, max(1, ceil(min(cpu_quota(), 1 << 20))))


def cpu_quota(root: Path = Path("/")) -> float:
    """Return the quota of the control group and its parents in cores.

    Args:
        root: Folder that contains ``proc`` and ``sys``.

    Returns:
        A positive number, possibly fractional; infinity if there is no quota.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError):
        return inf
    quotas = [inf]
    for line in lines:
        _, _, names = line.partition(":")
        controllers, _, path = names.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the path may be that of the host, of which only the end, or nothing, exists.
        for mount in {controllers or ".", "cpu" if controllers else "unified"}:
            group = Path("sys/fs/cgroup", mount, path.lstrip("/"))
            for folder in (group, *group.parents):
                quotas.extend(_quotas(root / folder))
    return min(quotas)


def _quotas(group: Path) -> Iterator[float]:
    """Yield the quotas of one control group, of versions 2 and 1."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with suppress(OSError, ValueError):  # no such file, or "max" instead of a number
            numbers = [n for name in names for n in (group / name).read_text("ascii").split()]
            quota, period = (int(number) for number in numbers)
            if quota > 0 and period > 0:
                yield quota / period
