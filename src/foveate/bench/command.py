# SPDX-License-Identifier: Apache-2.0
"""A command line of ``foveate bench``, which advice repeats with a change."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line of ``foveate bench``, without the files that it writes.

    Args:
        arguments: The bundle and the images.
        options: Values of the options that were given, such as ``{"--threads": "2"}``; empty for
            an option without a value.
    """

    arguments: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)

    def changed(self, changes: Mapping[str, str | int], *, without: tuple[str, ...] = ()) -> str:
        """Return the command line with other values of some options, and without others."""
        kept = {name: value for name, value in self.options.items() if name not in without}
        words = ["foveate", "bench", *self.arguments]
        for name, value in {**kept, **changes}.items():
            words += [name, str(value)] if value != "" else [name]
        return shlex.join(words)
