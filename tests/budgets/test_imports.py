# SPDX-License-Identifier: Apache-2.0
"""What a program loads before it does anything, on which its start depends."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from tests.budgets.budget import Budgets, Count
from tests.samples.paths import CAT

# A command whose `sys.exit` must not keep the modules from being printed.
COMMAND = """
import atexit, sys
atexit.register(lambda: print(*sys.modules))
sys.argv = {arguments!r}
from foveate.cli import main
main()
"""


def modules_after(code: str) -> dict[str, Count]:
    """Count what some code loads, in a process of its own."""
    before, after = (modules_of(one) for one in ("", code))
    names = after - before
    parts = Counter(name.partition(".")[0] for name in names)
    distributions = packages_distributions()
    packages = {distributions[part][0] for part in parts if part in distributions}
    foreign = sorted(packages - {"foveate"})
    return {
        "modules of foveate": Count(value=parts["foveate"], unit="modules"),
        "packages of others": Count(
            value=len(foreign), unit="packages", details=", ".join(foreign)
        ),
        "all modules": Count(value=len(names), unit="modules"),
    }


def modules_of(code: str) -> set[str]:
    code += "\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "module", ["foveate", "foveate.bundle", "foveate.results.detections", "foveate.runtime"]
)
def test_an_import_loads_no_more_than_budgeted(module: str, budgets: Budgets) -> None:
    budgets.check(f"import {module}", modules_after(f"import {module}"))


def test_a_command_loads_no_more_than_budgeted(
    contrast_bundle: Path, tmp_path: Path, budgets: Budgets
) -> None:
    output = ["--bundle", f"{contrast_bundle}", "--output", f"{tmp_path}"]
    arguments = ["foveate", "run", f"{CAT}", "--device", "cpu", *output]
    budgets.check("foveate run", modules_after(COMMAND.format(arguments=arguments)))
    assert (tmp_path / "cat-overlay.jpg").exists()


def test_help_loads_no_more_than_budgeted(budgets: Budgets) -> None:
    code = COMMAND.format(arguments=["foveate", "--help"])
    budgets.check("foveate --help", modules_after(code))


def test_an_import_that_is_not_needed_is_found() -> None:
    """A package that is planted in the import of ours, such as one that was moved to the top."""
    with pytest.raises(AssertionError, match=r"packages of others: 1 packages.*counted: pillow"):
        Budgets().check("import foveate", modules_after("import foveate, PIL"))
