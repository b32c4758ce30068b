# SPDX-License-Identifier: Apache-2.0
"""What an image costs with the shipped bundle on the CPU: runs, rows and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.budgets.budget import Budgets, Count
from tests.samples.c_library import compile_c
from tests.samples.paths import ROOT

COUNTER = ROOT / "tests" / "kernels" / "plugins" / "mock_host" / "counting_memory.c"
GROUP = "an image on the CPU"


def costs(folder: Path, waste: str = "") -> dict[str, Count]:
    environment = {
        **os.environ,
        "LD_PRELOAD": f"{compile_c(COUNTER, folder)}",
        "PYTHONPATH": os.pathsep.join([f"{ROOT}", f"{ROOT / 'src'}"]),
    }
    command = [sys.executable, "-m", "tests.budgets.cpu_image", waste]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = {}
    for key, value in json.loads(done.stdout).items():
        unit = key.rpartition(", ")[2]
        found[key] = Count(value=value, unit=unit)
    return found


def test_an_image_costs_no_more_than_budgeted(tmp_path: Path, budgets: Budgets) -> None:
    budgets.check(GROUP, costs(tmp_path))


@pytest.mark.parametrize(
    ("waste", "text"),
    [
        ("run", r"refine, runs: 20 runs, budget 10 runs: \+10 \(\+100.0%\)"),
        ("copy", r"memory of 128 KiB and more, bytes: .*\+"),
    ],
)
@pytest.mark.slow
def test_a_waste_that_is_planted_is_found(waste: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=text):
        Budgets().check(GROUP, costs(tmp_path, waste))
