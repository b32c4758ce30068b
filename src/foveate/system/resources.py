# SPDX-License-Identifier: Apache-2.0
"""Processor cores of this process, and errors that mean that memory, files or space ran out."""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil, inf
from pathlib import Path

from foveate.errors import BackendError, OutOfMemoryError

_MEMORY = (
    *(
        "cuda failure 2:",
        "status_alloc_failed",
        "std::bad_alloc",
        "bad allocation",
        "allocate memory",
        "failed to map segment",
    ),
    *("insufficient memory", "can't start new thread", "resource temporarily unavailable"),
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FILES = ("system error number 24", "too many open files")


def usable_cores() -> int:
    """Return the number of cores that the affinity mask and the control group allow, at least 1.

    A fractional quota is rounded up, as in the runtimes of Go and Java.
    """
    mask = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return min(len(mask) or os.cpu_count() or 1, max(1, ceil(min(cpu_quota(), 1 << 20))))


def cpu_quota(root: Path = Path("/")) -> float:
    """Return the quota of the control group and its parents in cores.

    Args:
        root: Directory that contains ``proc`` and ``sys``.

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


def shortage(error: BaseException | None) -> BackendError | None:
    """Return our error if memory or file descriptors ran out according to an error or its cause."""
    while error is not None:
        number, text = getattr(error, "errno", None), str(error).lower()
        if isinstance(error, MemoryError) or number == errno.ENOMEM or _any(_MEMORY, text):
            return OutOfMemoryError(
                "there is not enough memory",
                remedy="free some memory, raise its limit, or use less: smaller images, a lower "
                "--top-k, fewer --threads",
            )
        if number == errno.EMFILE or _any(_FILES, text):
            return BackendError("too many files are open", remedy="raise the limit: ulimit -n 1024")
        error = error.__cause__
    return None


def remedy_of(error: Exception, otherwise: str, *, free: str = "free some space") -> str:
    """Return what to do about a file that cannot be written.

    Args:
        error: Why it cannot, or an error that was raised from the reason.
        otherwise: What helps whatever the reason is.
        free: What helps as well if no space is left.
    """
    reason: BaseException | None = error
    while reason is not None and getattr(reason, "errno", None) not in _FULL:
        reason = reason.__cause__
    return otherwise if reason is None else f"{free}, or {otherwise}"


def _any(words: tuple[str, ...], text: str) -> bool:
    return any(word in text for word in words)
