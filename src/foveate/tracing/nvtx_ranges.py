# SPDX-License-Identifier: Apache-2.0
"""Ranges of NVTX, which a profiler such as Nsight Systems shows above the work of the GPU."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from foveate.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
DOMAIN = "foveate"


class NvtxRanges:
    """Ranges in a domain of their own. Without a profiler they do nothing.

    Raises:
        MissingExtraError: The package nvtx is not installed.
    """

    def __init__(self) -> None:
        try:
            nvtx = import_module("nvtx")
        except ImportError as error:
            raise MissingExtraError("nvtx", "nvtx") from error
        self._domain: Any = nvtx.get_domain(DOMAIN)

    def within(self, name: str, index: int, function: Callable[[], T]) -> Callable[[], T]:
        """Return a function that runs in a range of its thread, with an image's index as payload."""
        attributes = self._domain.get_event_attributes(message=name, payload=index)
        return partial(self._run, attributes, function)

    def begin(self, index: int) -> Callable[[], None]:
        """Begin the range of an image; return what ends it, in any thread."""
        attributes = self._domain.get_event_attributes(message=f"image {index}")
        return partial(self._domain.end_range, self._domain.start_range(attributes))

    def _run(self, attributes: object, function: Callable[[], T]) -> T:
        self._domain.push_range(attributes)
        try:
            return function()
        finally:
            self._domain.pop_range()
