# SPDX-License-Identifier: Apache-2.0
"""A pipeline and forked processes. Each fork happens in a process of its own, under a time limit."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import foveate
from foveate.errors import BackendError

HEAD = """
import gc, multiprocessing, os, threading
import numpy as np
import foveate

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


def load(threads=2):
    return foveate.load("mini", options=foveate.PipelineOptions(threads=threads, score_threshold=0))


def told(use):
    try:
        use()
    except foveate.BackendError as error:
        return str(error)
    return "nothing"


def forked(use):
    "Print what the child says, and how it ended."
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(use()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        print(answer.read().decode())
    os.waitpid(child, 0)
"""

FORKED = (
    "the pipeline was loaded in another process, before fork: "
    "load it in this process, or start processes with 'spawn'"
)


def run(body: str) -> list[str]:
    """Run a program that forks; the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore:This process", "-c", HEAD + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_every_use_in_a_forked_child_is_an_error_that_names_fork() -> None:
    body = """
    for threads, used in (1, True), (2, False):
        pipeline = load(threads)
        if used:
            pipeline(IMAGE)
        forked(lambda: told(lambda: pipeline(IMAGE)))
    begun = pipeline.stream(IMAGE for _ in range(5))
    next(begun)
    uses = (
        lambda: pipeline([IMAGE]),
        lambda: pipeline.propose(IMAGE),
        lambda: pipeline.stream([IMAGE]),
        lambda: next(begun),
        lambda: pipeline.__enter__(),
    )
    for use in uses:
        forked(lambda: told(use))
    forked(lambda: forked(lambda: told(uses[0])))
    print(len(list(begun)))
    """
    assert run(body) == [*[FORKED] * 8, "None", "4"]


def test_a_server_in_a_forked_child_refuses_the_pipeline_of_its_parent() -> None:
    body = """
    import asyncio
    from foveate.serve import create_app

    app = create_app([load()])

    async def start():
        async with app.router.lifespan_context(app):
            pass

    forked(lambda: told(lambda: asyncio.run(start())))
    """
    assert run(body) == [FORKED]


def test_a_pool_of_forked_processes_reports_the_error() -> None:
    body = """
    pipeline = load()
    pipeline(IMAGE)

    def work(number):
        return len(pipeline(IMAGE))

    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(told(lambda: pool.map(work, range(4))))
    """
    assert run(body) == [FORKED]


def test_a_fork_while_other_threads_use_the_pipeline_does_not_hang() -> None:
    body = """
    pipeline = load()
    stop = threading.Event()

    def work():
        while not stop.is_set():
            pipeline(IMAGE)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        forked(lambda: (told(lambda: pipeline(IMAGE)), pipeline.close()))
    stop.set()
    for thread in threads:
        thread.join()
    print(len(pipeline(IMAGE)))
    """
    lines = run(body)
    assert lines[:-1] == [str((FORKED, None))] * 20
    assert int(lines[-1]) > 0


def test_a_child_may_close_and_forget_the_pipeline_of_its_parent() -> None:
    body = """
    pipeline = load()
    expected = pipeline(IMAGE).scores
    begun = pipeline.stream([IMAGE] * 3)
    next(begun)

    def forget():
        global pipeline, begun
        pipeline.close()
        pipeline = begun = None
        return gc.collect() >= 0

    forked(forget)
    print(np.array_equal(pipeline(IMAGE).scores, expected), len(list(begun)))
    """
    assert run(body) == ["True", "True 2"]


def test_a_child_may_load_a_pipeline_of_its_own_at_any_moment() -> None:
    body = """
    pipeline = load()
    expected = pipeline(IMAGE).scores
    begun = pipeline.stream(IMAGE for _ in range(100))
    for _ in range(2):
        next(begun)
        forked(lambda: np.array_equal(load()(IMAGE).scores, expected))
    """
    assert run(body) == ["True"] * 2


def test_an_interpreter_that_exits_with_images_in_flight_is_silent() -> None:
    body = """
    pipeline = load()
    begun = pipeline.stream([IMAGE] * 9)
    next(begun)
    """
    assert run(body) == []


@pytest.mark.parametrize("make", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_pipeline_is_neither_pickled_nor_copied(
    make: Callable[[object], object], contrast_bundle: Path
) -> None:
    with (
        foveate.load(contrast_bundle) as pipeline,
        pytest.raises(BackendError, match=r"neither pickled nor copied: load it in each process"),
    ):
        make(pipeline)
