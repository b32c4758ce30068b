# SPDX-License-Identifier: Apache-2.0
"""The loader: order, independence of the workers, broken records, dead workers, Ctrl-C.

A worker imports PyTorch, which takes seconds, so each test starts as few as it needs.
"""

from __future__ import annotations

import multiprocessing.spawn
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from foveate.errors import BackendError, DataError, OptionError
from foveate.training.loader import PREFETCH, Drawn, Loader, draw_batch
from foveate.training.sampling.samples import sample_generator

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class NumberSource:
    """One random number a sample; of a given step some or all records are broken."""

    broken_step: int = -1
    always: bool = False

    def draw(self, step: int, rng: np.random.Generator) -> float:
        value = float(rng.random())
        if step == self.broken_step and (self.always or value < 0.5):
            raise DataError("the image is truncated", file=f"{value:.3f}.jpg")
        return value

    def collate(self, samples: list[float]) -> Numbers:
        return np.array(samples)


class DyingSource(NumberSource):
    def draw(self, step: int, rng: np.random.Generator) -> float:
        if step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().draw(step, rng)


@dataclass(frozen=True)
class LargeSource(NumberSource):
    table: bytes = bytes(2**20)


@dataclass(frozen=True)
class UnreadableSource(NumberSource):
    """Ends the process that unpickles it, by a signal or with status 3."""

    ending: int = 0

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return _end, (self.ending,)


def _end(number: int) -> None:
    if number:
        os.kill(os.getpid(), number)
    os._exit(3)


class FaultySource(NumberSource):
    def draw(self, step: int, rng: np.random.Generator) -> float:
        raise KeyError(super().draw(step, rng))


@dataclass(frozen=True)
class CountingSource(NumberSource):
    """Leaves a file for every step that was drawn."""

    folder: Path = Path()

    def draw(self, step: int, rng: np.random.Generator) -> float:
        (self.folder / str(step)).touch()
        return super().draw(step, rng)


def batches(source: NumberSource, workers: int, first: int = 0) -> list[Numbers]:
    with Loader(source, indices=range(4), seed=3, steps=9, workers=workers) as loader:
        return [loader.take(step).batch for step in range(first, 9)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_depends_on_seed_step_and_place_alone(workers: int) -> None:
    found = batches(NumberSource(), workers)
    for step, batch in enumerate(found):
        assert batch.tolist() == [sample_generator(3, step, i).random() for i in range(4)]


def test_a_resumed_loader_goes_on_where_it_was() -> None:
    assert np.array_equal(batches(NumberSource(), 0)[5:], batches(NumberSource(), 1, first=5))


def test_shares_of_a_batch_join_to_the_whole() -> None:
    shares = [draw_batch(NumberSource(), range(a, a + 2), 3, 7).batch for a in (0, 2)]
    assert np.concatenate(shares).tolist() == batches(NumberSource(), 0)[7].tolist()


def drawn_with_broken_records(workers: int) -> list[Drawn]:
    source = NumberSource(broken_step=1)
    with Loader(source, indices=range(8), seed=0, steps=2, workers=workers) as loader:
        return [loader.take(step) for step in range(2)]


def test_broken_records_are_replaced_and_named() -> None:
    whole, drawn = drawn_with_broken_records(0)
    assert whole.skipped == ()
    assert (drawn.batch >= 0.5).all()
    assert len(drawn.skipped) > 0
    assert all(text.startswith("the image is truncated: 0.") for text in drawn.skipped)


def test_neither_replacements_nor_what_is_told_of_them_depend_on_the_workers() -> None:
    one, other = (drawn_with_broken_records(workers) for workers in (0, 2))
    assert np.array_equal([drawn.batch for drawn in one], [drawn.batch for drawn in other])
    assert [drawn.skipped for drawn in one] == [drawn.skipped for drawn in other]


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_broken_records_are_an_error_that_names_one(workers: int) -> None:
    source = NumberSource(broken_step=2, always=True)
    with pytest.raises(
        DataError, match=r"sample 0 of step 3 cannot be drawn: the image is truncated: 0.*jpg"
    ):
        batches(source, workers)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_of_the_sampler_says_where_it_was(workers: int) -> None:
    with pytest.raises(KeyError) as caught:
        batches(FaultySource(), workers)
    said = "".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert "while drawing sample 0 of step 1 with seed 3" in said


def test_a_dead_worker_is_a_clear_error() -> None:
    with pytest.raises(BackendError, match=r"died at step \d: it may have run out of memory"):
        batches(DyingSource(), 2)


@pytest.fixture
def interpreter_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let new processes end at once; the tracker of semaphores is one too, but has to work."""
    script = tmp_path / "python"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *spawn_main*) exit 1;; esac\nexec {sys.executable} "$@"\n'
    )
    script.chmod(0o700)
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(script))


@pytest.mark.usefixtures("interpreter_that_dies")
def test_workers_that_die_before_they_read_anything_are_an_error() -> None:
    source = LargeSource()
    assert len(pickle.dumps(source)) > 2**16  # more than a pipe takes unread
    started = time.monotonic()
    with pytest.raises(BackendError, match=r"died at step \d: it may have run out of memory"):
        batches(source, 2)
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("ending", [signal.SIGKILL, 0])
def test_workers_that_die_as_they_read_the_source_are_an_error(ending: int) -> None:
    started = time.monotonic()
    with pytest.raises(BackendError, match=r"died at step 1: it may have run out of memory"):
        batches(UnreadableSource(ending=ending), 1)
    assert time.monotonic() - started < 60


def test_no_more_than_asked_is_drawn_ahead(tmp_path: Path) -> None:
    source = CountingSource(folder=tmp_path)
    wanted = list(range(10, 11 + PREFETCH))
    with Loader(source, indices=range(1), seed=0, steps=100, workers=1) as loader:
        loader.take(10)
        deadline = time.monotonic() + 10
        while len(list(tmp_path.iterdir())) < len(wanted) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == wanted


def test_impossible_options_are_refused() -> None:
    with pytest.raises(OptionError, match="expected 0 or more workers, found -1"):
        Loader(NumberSource(), indices=range(1), seed=0, steps=1, workers=-1)


ENDLESS = """
import multiprocessing
import time
from foveate.training.loader import Loader

class Slow:
    def draw(self, step, rng):
        time.sleep(0.05)
        return step
    def collate(self, samples):
        return samples

if __name__ == "__main__":
    with Loader(Slow(), indices=range(2), seed=0, steps=10**9, workers=1) as loader:
        for step in range(10**9):
            loader.take(step)
            if step == 1:  # the worker has begun
                print(*(process.pid for process in multiprocessing.active_children()), flush=True)
"""


def test_ctrl_c_ends_all_processes_without_a_word_from_the_worker(tmp_path: Path) -> None:
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert len(workers) == 1
    assert not Path(f"/proc/{workers[0]}").exists()
