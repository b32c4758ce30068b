# SPDX-License-Identifier: Apache-2.0
"""How far a build is, and whether it is still wanted, by TensorRT's progress monitor."""

from __future__ import annotations

import json
import select
import sys
from typing import IO, Any


class Phases:
    """Nested phases of a build as one share that only grows.

    A phase may begin within a step of another. The share of the outermost phase that is done is its
    finished steps, and of the running step the share that the phase within has done.
    """

    def __init__(self) -> None:
        self._open: dict[str, tuple[str | None, int, int]] = {}
        self._share = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Begin a phase of so many steps within another, or within none."""
        self._open[name] = (parent, 0, steps)

    def step(self, name: str, number: int) -> float:
        """Finish a step of a phase; return the share of the whole that is done, in 0..1."""
        parent, _, steps = self._open[name]
        self._open[name] = (parent, number + 1, steps)
        share, here = self._of(name), parent
        while here is not None and here in self._open:
            parent, done, steps = self._open[here]
            share, here = min(1.0, (done + share) / max(1, steps)), parent
        self._share = max(self._share, share)
        return self._share

    def finish(self, name: str) -> None:
        """End a phase."""
        self._open.pop(name, None)

    def _of(self, name: str) -> float:
        _, done, steps = self._open[name]
        return min(1.0, done / max(1, steps))


def make_monitor(trt: Any, events: IO[str]) -> Any:
    """Return a monitor that writes events, and stops the build when standard input ends.

    Args:
        trt: the module of TensorRT.
        events: gets a line a hundredth of the build.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the module is known only now
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases, self.told = Phases(), -1

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.phases.start(name, parent, steps)

        def step_complete(self, name: str, step: int) -> bool:
            done = int(100 * self.phases.step(name, step))
            try:
                if done > self.told:
                    self.told = done
                    events.write(json.dumps({"event": "progress", "done": done}) + "\n")
            except OSError:  # nobody listens any more; an exception must not reach TensorRT
                return False
            return not _abandoned()

        def phase_finish(self, name: str) -> None:
            self.phases.finish(name)

    return Monitor()


def _abandoned() -> bool:
    """Tell whether standard input has ended; nothing else comes there after the request."""
    return bool(select.select([sys.stdin], [], [], 0)[0])
