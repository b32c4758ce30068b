# SPDX-License-Identifier: Apache-2.0
"""Runs code on many damaged inputs, each of which must end in a result or in an error of ours.

Cases run in a child process, so that a crash, a hang or a case that eats the memory fails by itself
and the next case goes on in a fresh child. A case depends on the campaign's name, the seed and its
number only: ``python -m tests.fuzz images --only NAME --first 17 --cases 1`` runs it again.
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

from foveate.errors import FoveateError

__all__ = ["Campaign", "Case", "Report", "campaigns_of", "run"]

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0  # for the child's imports


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """One kind of input, how it is damaged, and the code that reads it.

    Args:
        name: Unique in its module.
        make: Writes one damaged input into the given empty folder and returns its path.
        use: Runs our code on it. It may return, or raise a `FoveateError`; anything else fails.
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
    """What became of a case.

    Args:
        campaign: Name of its campaign.
        number: Its number.
        outcome: "done", "refused" (an error of ours), "failed" (another one), "crash", "hang" or
            "memory".
        detail: The error's text or traceback, or the exit status.
        seconds: Wall-clock time.
        peak: Peak resident memory of the process while it ran, in bytes.
        noise: What libraries printed meanwhile.
    """

    campaign: str
    number: int
    outcome: str
    detail: str = ""
    seconds: float = 0.0
    peak: int = 0
    noise: str = ""

    @property
    def passed(self) -> bool:
        """Whether it ended as every case must."""
        return self.outcome in ("done", "refused")


@dataclass
class Report:
    """Sums over cases, and those that did not pass or were not silent."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[Case] = field(default_factory=list)
    noisy: list[Case] = field(default_factory=list)
    slowest: float = 0.0
    peak: int = 0

    def add(self, case: Case) -> None:
        """Count a case."""
        self.outcomes[case.outcome] += 1
        self.slowest = max(self.slowest, case.seconds)
        self.peak = max(self.peak, case.peak)
        if not case.passed:
            self.faults.append(case)
        elif case.noise:
            self.noisy.append(case)

    def summary(self) -> str:
        """Return one line with all counts."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        return (
            f"{self.outcomes.total()} cases: {counts}; {len(self.noisy)} noisy; "
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
        name: The campaign in it.
        cases: How many.
        seed: Another seed gives other cases.
        first: Number of the first one.

    Yields:
        What became of each.
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
    """Run cases in one child until it has done them all, or dies, or is killed."""
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
    """Read a line, b"" at the end of the stream; None if nothing comes in time."""
    ready, _, _ = select.select([stream], [], [], seconds)
    return stream.readline() if ready else None


def _work(module: str, name: str, seed: int, first: int, end: int) -> None:
    """Run cases in this process, and write a line of JSON for each."""
    campaign = _named(module, name)
    with os.fdopen(os.dup(1), "w") as results, tempfile.TemporaryFile() as noise:
        for stream in (1, 2):  # whatever libraries print, in Python or in C
            os.dup2(noise.fileno(), stream)
        resource.setrlimit(resource.RLIMIT_DATA, (2 * campaign.memory,) * 2)
        for number in range(first, end):
            case = _run(campaign, seed, number, noise)
            results.write(json.dumps(asdict(case)) + "\n")
            results.flush()


def _run(campaign: Campaign, seed: int, number: int, noise: IO[bytes]) -> Case:
    rng = np.random.default_rng([seed, zlib.crc32(campaign.name.encode()), number])
    outcome, detail = "done", ""
    with tempfile.TemporaryDirectory() as folder:
        path = campaign.make(rng, Path(folder))
        Path("/proc/self/clear_refs").write_text("5")  # forget the former peak
        began = time.perf_counter()
        try:
            campaign.use(path)
        except FoveateError as error:
            outcome, detail = "refused", str(error)
        except BaseException:  # noqa: BLE001 - the report shows it
            outcome, detail = "failed", traceback.format_exc()
        seconds = time.perf_counter() - began
    sys.stdout.flush()
    sys.stderr.flush()
    noise.seek(0)
    text = noise.read().decode(errors="replace")
    noise.seek(0)
    noise.truncate()
    return Case(
        campaign=campaign.name,
        number=number,
        outcome=outcome,
        detail=detail,
        seconds=seconds,
        peak=_peak(),
        noise=text,
    )


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


if __name__ == "__main__":
    _work(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
