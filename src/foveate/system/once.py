# SPDX-License-Identifier: Apache-2.0
"""Functions that act on the whole process, and must act once even if several threads call them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache, wraps
from typing import TypeVar, TypeVarTuple

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


def once(function: Callable[[*Arguments], Result]) -> Callable[[*Arguments], Result]:
    """Return a function that runs once for the same arguments, and then repeats its result.

    Unlike with ``functools.cache``, a thread that calls it meanwhile waits for the first one.
    """
    results, running = cache(function), threading.Lock()

    @wraps(results)
    def run(*arguments: *Arguments) -> Result:
        with running:
            return results(*arguments)

    return run
