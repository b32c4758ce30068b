# SPDX-License-Identifier: Apache-2.0
"""The fuzz harness: runs code on many damaged inputs, which must give a result or a `FoveateError`.

Cases run in a child process, so that a crash, a hang or excessive memory makes only that case fail,
and the next case runs in a new child. A case depends only on the campaign's name, the seed and its
number: ``python -m tests.fuzz images --only NAME --first 17 --cases 1`` runs it again.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from tests.samples.paths import ROOT

from foveate.errors import FoveateError

START_SECONDS = 120.0  # for the child's imports


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """A kind of damaged input, and the code that reads it.

    Args:
        name: Name, unique in its module.
        make: Function that writes one damaged input to an empty directory and returns its path.
        use: Function that reads the input. It must return or raise a `FoveateError`.
        seconds: Time limit of a case.
        memory: Limit of the peak resident memory of the process, in bytes.
    """

    name: str
    make: Callable[[np.random.Generator, Path], Path]
    use: Callable[[Path], None]
    seconds: float = 20.0
    memory: int = 2 << 30


@dataclass(frozen=True, kw_only=True)
class Case:
    """Result of a case.

    Args:
        campaign: Name of the campaign.
        number: Number of the case.
        outcome: "done", "refused" (a `FoveateError`), "failed" (another error), "crash", "hang" or
            "memory".
        detail: Message or traceback of the error, or the exit status.
        seconds: Wall-clock time.
        peak: Peak resident memory of the process while it ran, in bytes.
        printed: Output of libraries while it ran.
    """

    campaign: str
    number: int
    outcome: str
    detail: str = ""
    seconds: float = 0.0
    peak: int = 0
    printed: str = ""

    @property
    def passed(self) -> bool:
        """Whether the case gave a result or a `FoveateError`."""
        return self.outcome in ("done", "refused")


@dataclass
class Report:
    """Counts of cases, and the cases that failed or printed something."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[Case] = field(default_factory=list)
    printing: list[Case] = field(default_factory=list)
    slowest: float = 0.0
    peak: int = 0

    def add(self, case: Case) -> None:
        """Count a case."""
        self.outcomes[case.outcome] += 1
        self.slowest = max(self.slowest, case.seconds)
        self.peak = max(self.peak, case.peak)
        if not case.passed:
            self.faults.append(case)
        elif case.printed:
            self.printing.append(case)

    def summary(self) -> str:
        """Return one line with all counts."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        return (
            f"{self.outcomes.total()} cases: {counts}; {len(self.printing)} printed something; "
            f"slowest {self.slowest:.1f} s, peak {self.peak >> 20} MiB"
        )


def campaigns_of(module: str) -> tuple[Campaign, ...]:
    """Return the campaigns of ``tests.fuzz.<module>``."""
    found: tuple[Campaign, ...] = importlib.import_module(f"tests.fuzz.{module}").CAMPAIGNS
    return found


def run(module: str, *, name: str, cases: int, seed: int = 0, first: int = 0) -> Iterator[Case]:
    """Run cases of one campaign, in order.

    Args:
        module: ``images``, ``bundles`` or ``annotations``.
        name: Name of the campaign in the module.
        cases: Number of cases.
        seed: Seed; another one gives other cases.
        first: Number of the first case.

    Yields:
        The result of each case.
    """
    campaign = _named(module, name)
    number = first
    while number < first + cases:
        for case in _child(module, campaign, seed, number, first + cases):
            yield case
            number = case.number + 1


def _named(module: str, name: str) -> Campaign:
    return next(campaign for campaign in campaigns_of(module) if campaign.name == name)


def _child(module: str, campaign: Campaign, seed: int, first: int, end: int) -> Iterator[Case]:
    """Run cases in one child until all are done, or the child crashes or is killed."""
    paths = [os.fspath(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    child = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, module, campaign.name, *map(str, (seed, first, end))],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=ROOT,
    )
    assert child.stdout is not None
    number, limit = first, START_SECONDS
    try:
        while number < end:
            line = _line(child.stdout, limit)
            if not line:
                outcome = "hang" if line is None else "crash"
                child.kill()
                detail = f"exit status {child.wait()}"
                yield Case(campaign=campaign.name, number=number, outcome=outcome, detail=detail)
                return
            case = Case(**json.loads(line))
            if case.peak > campaign.memory:
                yield Case(**{**asdict(case), "outcome": "memory"})
                return
            yield case
            number, limit = number + 1, campaign.seconds
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def _line(stream: IO[bytes], seconds: float) -> bytes | None:
    """Return a line, b"" at the end of the stream, or None after a timeout."""
    ready, _, _ = select.select([stream], [], [], seconds)
    return stream.readline() if ready else None


def _work(module: str, name: str, seed: int, first: int, end: int) -> None:
    """Run cases in this process, and write a line of JSON per case."""
    campaign = _named(module, name)
    with os.fdopen(os.dup(1), "w") as results, tempfile.TemporaryFile() as printed:
        for stream in (1, 2):  # the output of libraries, in Python or in C
            os.dup2(printed.fileno(), stream)
        resource.setrlimit(resource.RLIMIT_DATA, (2 * campaign.memory,) * 2)
        for number in range(first, end):
            case = _run(campaign, seed, number, printed)
            results.write(json.dumps(asdict(case)) + "\n")
            results.flush()


def _run(campaign: Campaign, seed: int, number: int, printed: IO[bytes]) -> Case:
    rng = np.random.default_rng([seed, zlib.crc32(campaign.name.encode()), number])
    outcome, detail = "done", ""
    with tempfile.TemporaryDirectory() as folder:
        path = campaign.make(rng, Path(folder))
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        began = time.perf_counter()
        try:
            campaign.use(path)
        except FoveateError as error:
            outcome, detail = "refused", str(error)
        except BaseException:  # noqa: BLE001 - reported with its traceback
            outcome, detail = "failed", traceback.format_exc()
        seconds = time.perf_counter() - began
    sys.stdout.flush()
    sys.stderr.flush()
    printed.seek(0)
    text = printed.read().decode(errors="replace")
    printed.seek(0)
    printed.truncate()
    return Case(
        campaign=campaign.name,
        number=number,
        outcome=outcome,
        detail=detail,
        seconds=seconds,
        peak=_peak(),
        printed=text,
    )


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


if __name__ == "__main__":
    _work(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
