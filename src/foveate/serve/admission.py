# SPDX-License-Identifier: Apache-2.0
"""Which requests are processed, which wait, and which are refused."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from foveate.plain_text import counted
from foveate.serve.call import Call
from foveate.serve.errors import busy_error
from foveate.serve.pipelines import RecordedPipeline
from foveate.system.executors import submit

T = TypeVar("T")

_LONGEST_RETRY = 60  # seconds
_RECENT = 0.2  # share of the latest image in the mean time of an image


class Admission:
    """The slots of the pipelines, and a bounded queue before them.

    A request has its place from its head on, before its body is read, so that bodies take no more
    memory than places. All methods are called in the thread of the event loop.

    Args:
        pipelines: The pipelines.
        slots: Number of images that each of them processes at a time.
        queue: Number of requests that wait for a slot.

    Attributes:
        slots: Number of slots of all pipelines.
        waiting: Number of requests that have a place and no slot yet.
        busy: Number of slots that are in use. One whose client has left is in use until its work
            has stopped.
        begun: Number of images whose work has begun so far.
    """

    def __init__(self, pipelines: Sequence[RecordedPipeline], *, slots: int, queue: int) -> None:
        self.slots = slots * len(pipelines)
        self.waiting = self.busy = self.begun = 0
        self._pipelines = pipelines
        self._in_use = [0] * len(pipelines)
        self._queue = queue
        self._turns = asyncio.Semaphore(self.slots)
        self._threads = ThreadPoolExecutor(self.slots, thread_name_prefix="foveate-slot")
        self._seconds = 0.0  # of a recent image

    @property
    def idle(self) -> bool:
        """Whether no request has a place."""
        return not self.waiting and not self.busy

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Give a request a place until it is answered.

        Raises:
            RequestError: All places are taken.
        """
        if self.waiting + self.busy >= self.slots + self._queue:
            busy = counted(self.busy, "image", "images")
            what = f"{busy} in work and {counted(self.waiting, 'request', 'requests')} waiting"
            raise busy_error(429, what, self._seconds_until_free())
        place = Place(self)
        try:
            yield place
        finally:
            place.leave_queue()

    async def run(self, place: Place, call: Call, work: Callable[[RecordedPipeline], T]) -> T:
        """Wait for a slot, and do the work in it; the slot is free when the work has ended.

        If this is canceled, a request that waits leaves, and one in work keeps its slot until then.
        """
        await self._turns.acquire()
        place.leave_queue()
        call.waiting = call.seconds
        number = min(range(len(self._pipelines)), key=self._in_use.__getitem__)
        call.pipeline = number
        self.busy += 1
        self.begun += 1
        self._in_use[number] += 1
        loop, begin = asyncio.get_running_loop(), call.seconds
        answer: asyncio.Future[Future[T]] = loop.create_future()
        future = submit(self._threads, partial(work, self._pipelines[number]))

        def free(ended: Future[T]) -> None:
            self.busy -= 1
            self._in_use[number] -= 1
            self._turns.release()
            if ended.exception() is None:
                self._seconds += _RECENT * (call.seconds - begin - self._seconds)
            if not answer.done():
                answer.set_result(ended)

        future.add_done_callback(lambda ended: loop.call_soon_threadsafe(free, ended))
        return (await answer).result()

    def close(self) -> None:
        """Wait for all work, and end the threads."""
        self._threads.shutdown()

    def _seconds_until_free(self) -> int:
        """Return a guess of when a place will be free, in whole seconds."""
        rounds = (self.waiting + 1) / self.slots
        return min(_LONGEST_RETRY, max(1, math.ceil(rounds * self._seconds)))


class Place:
    """The place of a request, which waits until it has a slot."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._waits = True
        admission.waiting += 1

    def leave_queue(self) -> None:
        """Wait no longer. Leaving twice does nothing."""
        if self._waits:
            self._waits = False
            self._admission.waiting -= 1
