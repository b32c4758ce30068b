# SPDX-License-Identifier: Apache-2.0
"""Batches drawn ahead by worker processes, in order, each a function of seed and step alone."""

import pickle
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from foveate.errors import BackendError, DataError, FoveateError, OptionError
from foveate.training.sampling.samples import sample_generator

TRIES = 10  # draws of one sample before broken records are an error
PREFETCH = 4  # batches that each worker draws ahead of the training


class Source(Protocol):
    """Source of the samples of a training run; it is pickled for the worker processes."""

    def draw(self, step: int, rng: np.random.Generator) -> Any:
        """Draw one sample of a step; ``rng`` is the only source of randomness.

        Raises:
            DataError: The record that was drawn is broken; the error names it.
        """

    def collate(self, samples: list[Any]) -> Any:
        """Return a batch of NumPy arrays."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A batch, and the records that were left out of it.

    Args:
        batch: Batch as the source collated it.
        skipped: One message for each broken record that another one replaced.
    """

    batch: Any
    skipped: tuple[str, ...]


class Loader:
    """The batches of consecutive steps; use it in a ``with`` statement.

    Sample i of step s is drawn with ``sample_generator(seed, s, i)`` in any process. One broken
    record does not end the training run: it is reported, and another is drawn in its place.

    Args:
        source: Samples to draw from.
        indices: Places in the whole batch that this process draws.
        seed: Seed of the training.
        steps: Number of steps; nothing is drawn beyond the last.
        workers: Number of worker processes; 0 draws in this process, on demand.
    """

    def __init__(
        self, source: Source, *, indices: range, seed: int, steps: int, workers: int = 2
    ) -> None:
        if workers < 0:
            raise OptionError(f"expected 0 or more workers, found {workers}")
        self._dataset = _Steps(source, indices, seed)
        self._steps = steps
        self._workers = workers
        self._batches: Iterator[Drawn | FoveateError] | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._next = 0

    def take(self, step: int) -> Drawn:
        """Return the batch of a step; any step other than the next one restarts the workers.

        Raises:
            DataError: Too many records in a row are broken; the last one is named.
        """
        if self._batches is None or step != self._next:
            self._stop()
            self._batches = self._start(step)
        self._next = step + 1
        drawn = next(self._batches)
        if isinstance(drawn, FoveateError):
            raise drawn
        return drawn

    def _start(self, first: int) -> Iterator[Drawn | FoveateError]:
        if not self._workers:
            return map(self._dataset.__getitem__, range(first, self._steps))
        self._directory = tempfile.TemporaryDirectory(prefix="foveate-")
        file = Path(self._directory.name) / "source"
        file.write_bytes(pickle.dumps(self._dataset))
        loader: DataLoader[Drawn | FoveateError] = DataLoader(
            _StoredSteps(file),
            sampler=range(first, self._steps),
            # A batch is drawn and collated whole. Its arrays come back through a pipe, since only
            # tensors go through shared memory, which many containers have too little of.
            batch_size=None,
            collate_fn=_identity,
            num_workers=self._workers,
            prefetch_factor=PREFETCH,
            worker_init_fn=_prepare_worker,
            # A forked worker would inherit locks of the threads of OpenCV and PyTorch.
            multiprocessing_context="spawn",
            # A separate generator, so that the global one is not advanced.
            generator=torch.Generator(),
        )
        return iter(loader)

    def _stop(self) -> None:
        # PyTorch stops workers when their iterator is deleted. If the garbage collector deletes it,
        # the semaphores go first, and a worker that is still starting fails without them.
        batches, self._batches = self._batches, None
        if isinstance(batches, _MultiProcessingDataLoaderIter):
            batches._shutdown_workers()  # noqa: SLF001 - has no public name
        if self._directory is not None:
            self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Stop the workers.

        Raises:
            BackendError: A worker died. A signal handler of PyTorch reports it, at any line of the
                training.
        """
        self._stop()
        if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
            raise BackendError(
                f"a process that draws samples died at step {self._next}",
                remedy="it may have run out of memory: use fewer --workers",
            ) from error


def draw_batch(source: Source, indices: range, seed: int, step: int) -> Drawn:
    """Draw a batch in this process; see ``Loader`` for the arguments."""
    skipped: list[str] = []
    samples = [_draw_sample(source, seed, step, index, skipped) for index in indices]
    return Drawn(batch=source.collate(samples), skipped=tuple(skipped))


def _draw_sample(source: Source, seed: int, step: int, index: int, skipped: list[str]) -> Any:
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


@dataclass(frozen=True)
class _Steps(Dataset[Drawn | FoveateError]):
    """The batches by their step, as ``DataLoader`` reads them."""

    source: Source
    indices: range
    seed: int

    def __getitem__(self, step: int) -> Drawn | FoveateError:
        try:
            return draw_batch(self.source, self.indices, self.seed, step)
        except FoveateError as error:
            # Not raised, since the loader would replace the message with a traceback.
            return error


@dataclass(frozen=True)
class _StoredSteps(Dataset[Drawn | FoveateError]):
    """The batches by their step, of a data set in a file that each worker reads.

    A large data set must not go through the pipe of a new process: one that dies before it reads
    leaves its parent writing forever.
    """

    file: Path

    def __getitem__(self, step: int) -> Drawn | FoveateError:
        return self._steps[step]

    @cached_property
    def _steps(self) -> _Steps:
        steps: _Steps = pickle.loads(self.file.read_bytes())  # noqa: S301 - written by our parent
        return steps


def _identity(drawn: Any) -> Any:
    return drawn


def _prepare_worker(_worker: int) -> None:
    # Ctrl-C reaches every process of the terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
