# SPDX-License-Identifier: Apache-2.0
"""Count the small faults in the kernels that the tests detect; not part of a test run.

A mutant is a copy of the kernels with one change of `mutations.py`. It is killed if a test of a
kernel that includes the changed file fails: first those in the interpreter, then the host build
under sanitizers. Mutants that do not compile, or that compile to the code of the original, are no
mutants and are replaced. Which are drawn depends on the seed and on their own text only. Run from
the root, in parts side by side if need be::

    python -m tests.simulated_gpu.ptx.mutants --count 200 --seed 0 --report tests/simulated_gpu/ptx/mutants.json

What a report already holds of a source that has not changed since is not run again. A survivor that
cannot change a result gets a reason by hand, which begins with "equivalent".
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import pytest
from tests.kernels.compiled_matrix import SOURCES
from tests.kernels.host_build.library import LAUNCHERS
from tests.samples.paths import ROOT
from tests.simulated_gpu.ptx import machine
from tests.simulated_gpu.ptx.compilation import CACHE, LineInfo
from tests.simulated_gpu.ptx.mutations import Mutant, draw

from foveate.kernels import build
from foveate.kernels.build import FOLDER, included_sources
from foveate.kernels.compilers import FLAGS

ARCHITECTURE = "sm_90"
SECONDS = 120  # of processor time, after which a mutant that has not ended counts as killed
PACKAGE = FOLDER.parent
HOST_BUILD = (
    "tests/kernels/test_host_build.py::test_kernels_agree_with_the_reference_under_sanitizers"
)
# Tests in the interpreter that are not named as the file with the kernels.
TESTS = {"map": "bilinear_upsample"}


@cache
def users(source: str) -> list[Path]:
    """The files with kernels that include a source, or are it."""
    return [user for user in SOURCES if Path(source) in included_sources(user)]


def code_of(folder: Path, user: Path) -> str:
    """The instructions of the kernels of a file, without the lines that they come from."""
    texts = [(folder / path).read_text(encoding="utf-8") for path in sorted(folder.rglob("*.cuh"))]

    def make(target: Path) -> str:
        source = folder / user
        return LineInfo().compile(
            source, target, include=folder, form="ptx", architecture=ARCHITECTURE
        )

    key = "\n".join([LineInfo().version, *FLAGS, ARCHITECTURE, str(user), *texts])
    text = CACHE.get(key, "ptx", make).path.read_text(encoding="utf-8").partition(".section")[0]
    text = re.sub(r"^\s*(\.loc|\.file|//).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n+", "\n", text)


def fate_of(mutant: Mutant) -> str:
    """Make a mutant, and run the tests of its kernels on it in processes of their own."""
    with tempfile.TemporaryDirectory() as aside:
        package = Path(aside) / "foveate"
        package.mkdir()
        for part in PACKAGE.iterdir():
            if part.name == "kernels":
                shutil.copytree(part, package / part.name)
            else:
                (package / part.name).symlink_to(part)
        folder = package / "kernels"
        mutant.write(folder / mutant.source)
        try:
            if all(code_of(folder, u) == code_of(FOLDER, u) for u in users(mutant.source)):
                return "stillborn"
        except AssertionError:
            return "stillborn"
        if not _passes_interpreter(folder, users(mutant.source)):
            return "killed in the interpreter"
        return (
            "survived" if _passes_host_build(Path(aside), mutant.source) else "killed on the host"
        )


def _passes_interpreter(folder: Path, kernels: list[Path]) -> bool:
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        _limit_time()
        build.FOLDER = folder
        machine.STEP_LIMIT = 20_000
        names = sorted({TESTS.get(kernel.stem, kernel.stem) for kernel in kernels})
        files = [str(Path(__file__).with_name(f"test_{name}.py")) for name in names]
        code = pytest.main([*files, "-q", "-x", "-k", ARCHITECTURE, "-p", "no:cacheprovider"])
        os._exit(int(code))
    return os.waitpid(child, 0)[1] == 0


def _passes_host_build(aside: Path, source: str) -> bool:
    """Run the cases of the operations whose code includes a source."""
    files = {str(path.parent): path for path in SOURCES if path.parent.parent == Path()}
    files |= LAUNCHERS
    ops = [op for op, path in files.items() if Path(source) in included_sources(path)]
    cases = [f"{HOST_BUILD}[g++-{op}]" for op in ops]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *cases],
        env=os.environ | {"PYTHONPATH": f"{aside}:{ROOT}", "FOVEATE_CACHE": str(aside / "cache")},
        cwd=ROOT,
        capture_output=True,
        check=False,
        preexec_fn=_limit_time,
    )
    return done.returncode == 0


def _limit_time() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def read(report: Path) -> list[Mutant]:
    """Read the mutants of a report, none if there is none."""
    if not report.is_file():
        return []
    return [Mutant(**entry) for entry in json.loads(report.read_text(encoding="utf-8"))]


def write(report: Path, mutants: list[Mutant]) -> None:
    """Write a report, one mutant a line."""
    lines = ",\n".join(json.dumps(asdict(mutant)) for mutant in mutants)
    report.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def run(options: argparse.Namespace) -> list[Mutant]:
    """Run mutants until enough have lived, and keep the report."""
    known = {mutant.key: mutant for mutant in read(options.report)}
    results: list[Mutant] = []
    start = time.monotonic()
    for mutant in draw(users, options.seed)[options.part :: options.parts]:
        lived = sum(result.fate != "stillborn" for result in results)
        if lived * options.parts >= options.count:
            break
        if mutant.key in known:
            results.append(known[mutant.key])
            continue
        if time.monotonic() - start > 60 * options.minutes:
            break
        began = time.monotonic()
        fate = fate_of(mutant)
        results.append(replace(mutant, fate=fate, seconds=round(time.monotonic() - began, 1)))
        write(options.report, results)
    return results


def main() -> None:
    """Draw, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="mutants that compile to other code")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", type=int, default=0, help="which part of the drawn mutants")
    parser.add_argument("--parts", type=int, default=1, help="of how many that run side by side")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop after so long")
    parser.add_argument("--report", type=Path, default=Path("mutants.json"))
    parser.add_argument("--join", type=Path, nargs="*", help="reports of parts to join instead")
    options = parser.parse_args()
    if options.join:
        results = [mutant for part in options.join for mutant in read(part)]
        write(options.report, results)
    else:
        results = run(options)
    lived = [mutant for mutant in results if mutant.fate != "stillborn"]
    survivors = [mutant for mutant in lived if mutant.fate == "survived"]
    killed = len(lived) - len(survivors)
    share = killed / max(len(lived), 1)
    sys.stdout.write(f"{killed} of {len(lived)} killed ({share:.1%}), on {ARCHITECTURE}\n")
    for m in survivors:
        sys.stdout.write(f"{m.source}:{m.line} {m.kind}\n  - {m.before}\n  + {m.after}\n")


if __name__ == "__main__":
    main()
