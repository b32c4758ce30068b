# SPDX-License-Identifier: Apache-2.0
"""Page-locked memory whose accesses by the CPU are pieces of work, ordered like those of the GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from tests.simulated_gpu.driver.simulation import Simulation


class Watched(np.ndarray[Any, np.dtype[Any]]):
    """An array in pinned memory; a part of it that is taken counts as read at that time.

    ``simulation`` is set by the test. Functions that read an array through the buffer protocol are
    not seen.
    """

    simulation: ClassVar[Simulation]

    def __getitem__(self, index: Any) -> Any:
        found = plain(self)[index]
        # A view is read as it is; for copies, such as those by lists of indices, all may be.
        inside = isinstance(found, np.ndarray) and np.shares_memory(found, plain(self))
        touch(found if inside else self, write=False)
        return found.view(Watched) if inside else found

    def __setitem__(self, index: Any, value: Any) -> None:
        touch(self, write=True)
        plain(self)[index] = plain(value)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any
    ) -> Any:
        for item in inputs:
            touch(item, write=False)
        for item in out or ():
            touch(item, write=True)
        if out is not None:
            options["out"] = tuple(plain(item) for item in out)
        return getattr(ufunc, method)(*(plain(item) for item in inputs), **options)

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        writes = func is np.copyto
        for position, item in enumerate(args):
            touch(item, write=writes and position == 0)
        return func(*(plain(item) for item in args), **kwargs)


def plain(item: Any) -> Any:
    """Return a watched array as one that is not."""
    return item.view(np.ndarray) if isinstance(item, Watched) else item


def touch(item: object, *, write: bool) -> None:
    """Check an access to a watched array."""
    if isinstance(item, np.ndarray) and item.size:
        low, high = np.lib.array_utils.byte_bounds(plain(item))
        simulation = Watched.simulation
        if simulation.memory.offset(low) is not None:
            simulation.cpu_touches(low, high - low, write=write)
