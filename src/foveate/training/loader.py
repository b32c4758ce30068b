# SPDX-License-Identifier: Apache-2.0
"""Batches drawn ahead by worker processes, in order, each a function of seed and step alone.

NOTE: Processes, since decoding annotations holds Python's lock. Batches come back as numpy arrays
through a pipe: that costs milliseconds a batch, where shared memory costs a setting that containers
have too low. An executor from the standard library orders, bounds, and tells when a worker died.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import cv2
import numpy as np

from foveate.errors import BackendError, DataError, FoveateError, OptionError
from foveate.training.sampling import sample_generator

S = TypeVar("S")
B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)

TRIES = 10
"""Draws of one sample before broken records are an error."""


class Source(Protocol[S, B_co]):
    """What a loader draws from; it is handed to worker processes."""

    def draw(self, step: int, rng: np.random.Generator) -> S:
        """Draw one sample of a step; `rng` is the only source of randomness.

        Raises:
            DataError: the record that was drawn is broken; the error names it.
        """

    def collate(self, samples: list[S]) -> B_co:
        """Make a batch of numpy arrays."""


@dataclass(frozen=True, kw_only=True)
class Drawn(Generic[B]):
    """A batch, and what was left out of it.

    Attributes:
        batch: what the source collated.
        skipped: a text for each broken record in whose place another was drawn.
    """

    batch: B
    skipped: tuple[str, ...]


class Loader(Generic[S, B]):
    """Draws the batches of consecutive steps; close it, or use it in a `with` statement.

    Sample i of step s is drawn with `sample_generator(seed, s, i)`, whoever draws it. One broken
    record does not end a training: another is drawn in its place and the record is reported.

    Args:
        source: where samples come from.
        indices: places in the whole batch that are drawn here.
        seed: of the training.
        steps: number of steps; nothing is drawn beyond.
        workers: processes; 0 draws in this one, when asked.
        ahead: batches that may be drawn or waiting before they are asked for.
    """

    def __init__(
        self,
        source: Source[S, B],
        *,
        indices: range,
        seed: int,
        steps: int,
        workers: int = 2,
        ahead: int = 8,
    ):
        if workers < 0 or ahead < 1:
            raise OptionError("the loader needs 0 or more workers, and at least 1 batch ahead")
        self._source = source
        self._indices = indices
        self._seed = seed
        self._steps = steps
        self._ahead = ahead
        self._waiting: deque[tuple[int, Future[Drawn[Any]]]] = deque()
        self._next = -1
        self._pool = _start(source, workers) if workers else None

    def take(self, step: int) -> Drawn[B]:
        """Give the batch of a step; any step may be the first, then they follow one another.

        Raises:
            DataError: too many records in a row are broken; the last is named.
            BackendError: a worker process died.
        """
        if self._pool is None:
            return draw_batch(self._source, self._indices, self._seed, step)
        if self._next < 0:
            self._next = step
        while self._next < min(step + self._ahead, self._steps):
            future = self._pool.submit(_draw, self._indices, self._seed, self._next)
            self._waiting.append((self._next, future))
            self._next += 1
        number, future = self._waiting.popleft()
        assert number == step
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise BackendError(
                f"a process that draws samples died before step {step + 1}",
                remedy="it may have run out of memory: use fewer --workers",
            ) from error

    def close(self) -> None:
        """End the workers; what they are drawing is drawn to its end and thrown away."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def draw_batch(source: Source[S, B], indices: range, seed: int, step: int) -> Drawn[B]:
    """Draw a batch in this process; `Loader` says what the arguments are."""
    skipped: list[str] = []
    samples = [_draw_sample(source, seed, step, index, skipped) for index in indices]
    return Drawn(batch=source.collate(samples), skipped=tuple(skipped))


def _draw_sample(source: Source[S, B], seed: int, step: int, index: int, skipped: list[str]) -> S:
    rng = sample_generator(seed, step, index)
    try:
        for attempt in range(1, TRIES):
            try:
                return source.draw(step, rng)
            except DataError as error:
                skipped.append(str(error))
            rng = np.random.default_rng([seed, step, index, attempt])
        return source.draw(step, rng)
    except FoveateError as error:
        raise DataError(f"sample {index} of step {step + 1} cannot be drawn: {error}") from error
    except Exception as error:
        error.add_note(f"while drawing sample {index} of step {step + 1} with seed {seed}")
        raise


_source: Source[Any, Any]
"""In a worker process: what it was started with."""


def _start(source: Source[S, B], workers: int) -> ProcessPoolExecutor:
    # Not forked: the threads of OpenCV and PyTorch would leave locks behind that never open.
    return ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(source,)
    )


def _begin(source: Source[Any, Any]) -> None:
    global _source  # noqa: PLW0603 - a pool hands state to its processes in no other way
    # Ctrl-C reaches every process of the terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    _source = source


def _draw(indices: range, seed: int, step: int) -> Drawn[Any]:
    return draw_batch(_source, indices, seed, step)
