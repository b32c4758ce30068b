# SPDX-License-Identifier: Apache-2.0
"""How many small faults in the kernels do the tests see? Not part of a test run.

A mutant is a copy of the kernels with one change: an operator, a bound, a barrier, an index or a
rounding. It is killed if a test of its kernel fails. Mutants that do not compile, or that compile
to the code of the original, are no mutants and are replaced. Run from the root::

    python -m tests.ptx.mutants --count 200 --seed 0 --report mutants.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from tests.ptx import compilation, machine

ARCHITECTURE = "sm_90"
SECONDS = 120  # after which a mutant that has not ended counts as killed
SOURCES = {
    "roi_max_pool/roi_max_pool.cuh": ["roi_max_pool"],
    "roi_max_pool/bins.cuh": ["roi_max_pool", "foveal_roi_pool"],
    "foveal_roi_pool/foveal_roi_pool.cuh": ["foveal_roi_pool"],
    "bilinear_upsample/map.cuh": ["bilinear_upsample"],
    "bilinear_upsample/blend.cuh": ["bilinear_upsample", "paste_windows", "pyramid"],
    "bilinear_upsample/windows.cuh": ["paste_windows"],
    "gather_windows/gather_windows.cuh": ["gather_windows"],
    "nms/nms.cuh": ["nms"],
    "nms/order.cuh": ["nms", "select_top_k"],
    "nms/overlap.cuh": ["nms", "select_top_k"],
    "select_top_k/select_top_k.cuh": ["select_top_k"],
    "decode_boxes/decode_boxes.cuh": ["boxes"],
    "foveal_boxes/foveal_boxes.cuh": ["boxes"],
    "foveal_boxes/foveal_region.cuh": ["boxes", "foveal_roi_pool"],
    "take_boxes/take_boxes.cuh": ["boxes"],
    "pyramid/pyramid.cuh": ["pyramid"],
    "device/numbers.cuh": ["roi_max_pool"],
}
# What is changed into what, by kind.
CHANGES = {
    "operator": [
        (r" \+ ", " - "), (r" - ", " + "), (r" \* ", " + "), (r" / ", " * "), (r" % ", " / "),
        (r" && ", " || "), (r" \|\| ", " && "), (r" == ", " != "), (r" != ", " == "),
        (r" \|= ", " &= "), (r" \+= ", " -= "), (r"\badd\(", "mul("), (r"\bmul\(", "add("),
    ],
    "bound": [
        (r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "),
        (r"\bsmaller\(", "larger("), (r"\blarger\(", "smaller("),
    ],
    "barrier": [(r"__syncthreads\(\);", ""), (r"__syncwarp\(\);", "")],
    "index": [
        (r"(?<=[ (\[])0(?=[,;)\] ])", "1"), (r"(?<=[ (])1(?=[,;) ])", "2"),
        (r"(?<=[ (])2(?= \*)", "3"), (r"threadIdx\.x", "(threadIdx.x + 1)"),
    ],
    "rounding": [
        (r"\bfloorf\(", "ceilf("), (r"\bceilf\(", "floorf("), (r"\brintf\(", "floorf("),
        (r"\bfloor\(", "ceil("), (r"\bround_half_away\(", "floorf("), (r">= 0\.5f", "> 0.5f"),
    ],
}  # fmt: skip
# Lines that only the host, the compiler or a launch without threads to spare sees.
SKIPPED = re.compile(r"^\s*(//|#|template|constexpr|extern|using|static_assert)|__launch_bounds__")


@dataclass(frozen=True)
class Mutant:
    """One change of one line; `fate` is "killed", "survived" or "stillborn"."""

    source: str
    line: int
    kind: str
    before: str
    after: str
    fate: str = ""
    seconds: float = 0.0


def candidates(source: str) -> Iterator[Mutant]:
    """Every change of a file."""
    text = (compilation.FOLDER / source).read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        code = line.partition("//")[0]
        if SKIPPED.match(code) or "#define" in code or code.rstrip().endswith("\\"):
            continue
        for kind, changes in CHANGES.items():
            for pattern, replacement in changes:
                for found in re.finditer(pattern, code):
                    changed = code[: found.start()] + replacement + code[found.end() :]
                    yield Mutant(source, number, kind, line.strip(), changed.strip())


def draw(count: int, seed: int) -> list[Mutant]:
    """Draw mutants, as many of a kind and of a file as there are places, barriers all of them."""
    drawn = random.Random(seed)
    found = [mutant for source in SOURCES for mutant in candidates(source)]
    barriers = [mutant for mutant in found if mutant.kind == "barrier"]
    others = [mutant for mutant in found if mutant.kind != "barrier"]
    drawn.shuffle(others)
    chosen = barriers + others[: 3 * count]  # some will be stillborn
    drawn.shuffle(chosen)
    return chosen


def users(source: str) -> list[str]:
    """The files with kernels that a test of this source compiles."""
    folder = Path(source).parent.name
    if source.endswith(("blend.cuh",)):
        return ["bilinear_upsample/map.cuh", "bilinear_upsample/windows.cuh", "pyramid/pyramid.cuh"]
    if source.endswith(("order.cuh", "overlap.cuh")):
        return ["nms/nms.cuh", "select_top_k/select_top_k.cuh"]
    if source.endswith("foveal_region.cuh"):
        return ["foveal_boxes/foveal_boxes.cuh", "foveal_roi_pool/foveal_roi_pool.cuh"]
    if folder in ("roi_max_pool", "device"):
        return ["roi_max_pool/roi_max_pool.cuh"]
    return [source]


def code_of(folder: Path, source: str) -> str:
    """The instructions of a source's kernels, without what tells where they come from."""
    parts = []
    for user in users(source):
        text = compilation.compile_ptx(folder / user, ARCHITECTURE, folder)
        text = text.partition(".section")[0]
        parts.append(re.sub(r"^\s*(\.loc|\.file|//).*$", "", text, flags=re.MULTILINE))
    return re.sub(r"\n+", "\n", "".join(parts))


def fate_of(mutant: Mutant) -> str:
    """Make a mutant, and run the tests of its kernel on it in a process of its own."""
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside) / "kernels"
        shutil.copytree(compilation.FOLDER, folder)
        file = folder / mutant.source
        lines = file.read_text(encoding="utf-8").splitlines()
        if lines[mutant.line - 1].strip() != mutant.before:
            return "stillborn"  # somebody has edited the file meanwhile
        lines[mutant.line - 1] = mutant.after
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        try:
            if code_of(folder, mutant.source) == code_of(compilation.FOLDER, mutant.source):
                return "stillborn"
        except AssertionError:
            return "stillborn"
        child = os.fork()
        if child == 0:
            _run_tests(folder, SOURCES[mutant.source])
        _, status = os.waitpid(child, 0)
        return "survived" if status == 0 else "killed"


def _run_tests(folder: Path, names: list[str]) -> None:
    """Run the tests on other kernels, in a child process that ends here."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    signal.alarm(SECONDS)
    compilation.FOLDER = folder
    machine.STEP_LIMIT = 20_000
    here = Path(__file__).parent
    files = [str(here / f"test_{name}.py") for name in names]
    code = pytest.main([*files, "-q", "-x", "-k", ARCHITECTURE, "-p", "no:cacheprovider"])
    os._exit(int(code))


def main() -> None:
    """Draw, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="mutants that compile to other code")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", type=int, default=0, help="which part of the drawn mutants")
    parser.add_argument("--parts", type=int, default=1, help="of how many that run side by side")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop after so long")
    parser.add_argument("--report", type=Path, default=Path("mutants.json"))
    options = parser.parse_args()
    results: list[Mutant] = []
    start = time.monotonic()
    for mutant in draw(options.count, options.seed)[options.part :: options.parts]:
        lived = [m for m in results if m.fate != "stillborn"]
        if (
            len(lived) * options.parts >= options.count
            or time.monotonic() - start > 60 * options.minutes
        ):
            break
        began = time.monotonic()
        fate = fate_of(mutant)
        seconds = round(time.monotonic() - began, 1)
        results.append(Mutant(**(asdict(mutant) | {"fate": fate, "seconds": seconds})))
        text = json.dumps([asdict(m) for m in results], indent=1)
        options.report.write_text(text, encoding="utf-8")
    lived = [m for m in results if m.fate != "stillborn"]
    survivors = [m for m in lived if m.fate == "survived"]
    killed = len(lived) - len(survivors)
    share = killed / max(len(lived), 1)
    sys.stdout.write(f"{killed} of {len(lived)} killed ({share:.1%}), on {ARCHITECTURE}\n")
    for m in survivors:
        sys.stdout.write(f"{m.source}:{m.line} {m.kind}\n  - {m.before}\n  + {m.after}\n")


if __name__ == "__main__":
    main()
