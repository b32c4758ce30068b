# SPDX-License-Identifier: Apache-2.0
"""Campaigns that fail in a known way, to test the harness."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
from tests.fuzz.harness import Campaign

from foveate.errors import InputError


def make(rng: np.random.Generator, folder: Path) -> Path:
    del rng
    return folder / "nothing"


def returns(path: Path) -> None:
    del path


def refuses(path: Path) -> None:
    raise InputError("refused", file=path)


def breaks(path: Path) -> None:
    del path
    raise ZeroDivisionError


def crashes(path: Path) -> None:
    del path
    os.kill(os.getpid(), signal.SIGSEGV)


_calls = 0


def hangs(path: Path) -> None:
    global _calls  # noqa: PLW0603 - the second call of a process hangs
    _calls += 1
    if _calls == 2:
        time.sleep(60)
    del path


def eats(path: Path) -> None:
    del path
    np.ones(300 << 20, np.uint8)


def prints(path: Path) -> None:
    del path
    os.write(2, b"warning: premature end\n")


CAMPAIGNS = tuple(
    Campaign(name=use.__name__, make=make, use=use, seconds=1.5, memory=256 << 20)
    for use in (returns, refuses, breaks, crashes, hangs, eats, prints)
)
