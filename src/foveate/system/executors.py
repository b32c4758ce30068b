# SPDX-License-Identifier: Apache-2.0
"""Submitting work to executors, which take none after the main thread has ended."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TypeVar

from foveate.system.native_code import native_code

Result = TypeVar("Result")


def submit(executor: Executor, task: Callable[[], Result]) -> Future[Result]:
    """Run a task in an executor, or in this thread if the executor takes no more work.

    After the main thread has ended no executor does, but other threads and exit handlers still run.
    """
    try:
        return executor.submit(task)
    except RuntimeError:
        future: Future[Result] = Future()
        with native_code():
            try:
                future.set_result(task())
            except Exception as error:  # noqa: BLE001 - the future raises it
                future.set_exception(error)
        return future
