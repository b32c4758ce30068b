# SPDX-License-Identifier: Apache-2.0
"""The callback by which a long computation reports its progress."""

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Callback that a long computation calls whenever a part of a task is done."""

    def __call__(
        self, task: str, done: int, total: int, figures: Mapping[str, float] | None = None, /
    ) -> None:
        """Report that ``done`` of ``total`` parts of a task are done.

        Args:
            task: Name of the task; several tasks may run one after another.
            done: Number of finished parts.
            total: Number of all parts.
            figures: Values to show next to the task, such as losses.
        """


def no_progress(
    task: str, done: int, total: int, figures: Mapping[str, float] | None = None, /
) -> None:
    """Ignore the report: the default of functions that take a ``Progress``."""
