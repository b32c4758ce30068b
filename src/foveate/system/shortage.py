# SPDX-License-Identifier: Apache-2.0
"""Recognizing errors that mean that memory or file descriptors ran out."""

from __future__ import annotations

import errno

from foveate.errors import BackendError

_MEMORY = (
    "std::bad_alloc",
    "bad allocation",
    "allocate memory",
    "failed to map segment",
    "insufficient memory",
    "can't start new thread",
    "resource temporarily unavailable",
)
_FILES = ("system error number 24", "too many open files")


def shortage(error: BaseException | None) -> BackendError | None:
    """Return our error if memory or file descriptors ran out according to an error or its cause."""
    while error is not None:
        number, text = getattr(error, "errno", None), str(error).lower()
        if isinstance(error, MemoryError) or number == errno.ENOMEM or _any(_MEMORY, text):
            return BackendError(
                "there is not enough memory",
                remedy="free some or raise its limit, or use less: smaller images, a lower "
                "--top-k, fewer --threads",
            )
        if number == errno.EMFILE or _any(_FILES, text):
            return BackendError("too many files are open", remedy="raise the limit: ulimit -n 1024")
        error = error.__cause__
    return None


def _any(words: tuple[str, ...], text: str) -> bool:
    return any(word in text for word in words)
