# SPDX-License-Identifier: Apache-2.0
"""Images in flight, whose results come in order."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from foveate.errors import OutOfMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from foveate.runtime.slot import Slot
    from foveate.runtime.slots import Slots

Taken = TypeVar("Taken")
Result = TypeVar("Result")
_logger = logging.getLogger(__name__)


class InFlight(Generic[Taken, Result]):
    """The images of one stream that are in flight.

    Args:
        begin: Enqueues the work for an image.
        end: Waits for the work, and returns its result.
        drop: Waits for images whose results nobody collects.
        slots: The slots, with the largest number of images in flight.
    """

    def __init__(
        self,
        begin: Callable[[Taken], Slot],
        end: Callable[[Slot], Result],
        drop: Callable[[Iterable[Slot]], None],
        slots: Slots,
    ) -> None:
        self._begin, self._end, self._drop = begin, end, drop
        self._slots = slots
        self._pending: deque[Slot] = deque()

    def stream(self, take: Callable[[], Taken]) -> Iterator[Result]:
        """Yield the result of each image that ``take`` returns, until it raises StopIteration.

        Any other exception is raised after the results of the images before it.
        """
        try:
            while True:
                try:
                    yield from self._start(take())
                except StopIteration:
                    break
                except Exception:
                    yield from self._finish(0)
                    raise
                yield from self._finish(self._slots.most_in_flight - 1)
            yield from self._finish(0)
        finally:
            self._drop(self._pending)

    def _start(self, image: Taken) -> Iterator[Result]:
        """Enqueue the work for an image, with fewer images in flight if memory does not suffice."""
        while True:
            try:
                self._pending.append(self._begin(image))
            except OutOfMemoryError as error:
                count = len(self._pending)
                if not count:
                    raise
                if count < self._slots.most_in_flight:
                    self._slots.most_in_flight = count
                    _logger.warning("max_in_flight is now %d: %s", count, error.what)
                yield self._end(self._pending.popleft())
            else:
                return

    def _finish(self, rest: int) -> Iterator[Result]:
        """Yield results until at most ``rest`` images are in flight."""
        while len(self._pending) > rest:
            yield self._end(self._pending.popleft())
