# SPDX-License-Identifier: Apache-2.0
"""Releasing memory while a server is idle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from foveate.serve.admission import Admission


async def release_when_idle(
    admission: Admission, release: Callable[[], None], *, seconds: float
) -> None:
    """Call a function in a thread when no image was in work for some seconds, until this is canceled.

    It is called once, and again only after further images.

    Args:
        admission: The slots of the server.
        release: The function, which releases memory.
        seconds: The least time without an image; the longest is twice as long.
    """
    seen = released = 0
    while True:
        await asyncio.sleep(seconds)
        if admission.idle and admission.begun == seen != released:
            await run_in_threadpool(release)  # as in app.py, not by asyncio.to_thread
            released = seen
        seen = admission.begun
