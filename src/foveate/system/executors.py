# SPDX-License-Identifier: Apache-2.0
"""Submitting work to executors, which take none after the main thread has ended."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar

Result = TypeVar("Result")

# A thread that runs a task itself holds this lock. At exit the main thread takes it for good, so that
# daemon threads wait: one inside an engine when the interpreter ends would abort the process.
_own_tasks = threading.RLock()
atexit.register(_own_tasks.acquire)


def submit(executor: Executor, task: Callable[[], Result]) -> Future[Result]:
    """Run a task in an executor, or in this thread if the executor takes no more work.

    After the main thread has ended no executor does, but other threads and exit handlers still run.
    """
    try:
        return executor.submit(task)
    except RuntimeError:
        future: Future[Result] = Future()
        with _own_tasks:
            try:
                future.set_result(task())
            except Exception as error:  # noqa: BLE001 - the future raises it
                future.set_exception(error)
        return future
