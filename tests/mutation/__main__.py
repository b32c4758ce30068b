# SPDX-License-Identifier: Apache-2.0
"""Mutation testing: the share of small faults in the Python code that the tests detect.

This is not part of a test run. A mutant is the package with one node of one source changed. It is
killed if a test that runs the changed function fails. Tests run in forks of a process that has
imported the large libraries, the fastest first, until one fails. The sample of mutants depends only
on the seed and on their own text. Run from the root::

    python -m tests.mutation --only runtime/ results/ --sample 100 --seed 0

Results are stored as JSON lines, and mutants with a stored result are not run again. A survivor
that changes no result gets a reason by hand in ``survivors.json``.

NOTE: Why not mutmut 3.8 or cosmic-ray 8.7? According to their documentation they do not sample
mutants, and have no operators that drop arguments and statements or swap heights and widths.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.mutation.coverage import ROOT, Coverage, in_child, pytest_main
from tests.mutation.mutations import PACKAGE, Mutant, draw

TARGETS = (
    "runtime/", "kernels/", "export/precision/", "training/sampling/", "evaluation/", "bundle/",
    "images/", "results/", "export/bundle_export.py", "training/mini/score_calibration.py",
    "models/losses.py",
)  # fmt: skip
# Code that needs a GPU or a compiler, which most test runs lack.
LEFT_OUT = ("runtime/devices/cuda", "runtime/engines/tensorrt", "kernels/plugins")
# Of the kernels, the CPU versions and the launches.
KERNELS = {"cpu", "op"}
ROOMS = (
    "bundle", "datasets", "evaluation", "export", "images", "kernels", "models", "results",
    "runtime", "system", "training",
)  # fmt: skip
TESTS = (
    *(ROOT / "tests" / room for room in ROOMS),
    ROOT / "tests" / "simulated_gpu" / "ptx" / "test_cuda_device.py",
)
LIBRARIES = (
    "cv2", "hypothesis.extra.numpy", "numpy", "onnx", "onnxruntime", "onnxscript", "PIL",
    "pycocotools.mask", "torch",
)  # fmt: skip
REASONS = Path(__file__).with_name("survivors.json")
CACHE = Path(tempfile.gettempdir()) / f"foveate-mutation-{os.getuid()}"
BATCHES = (6, 40, 10_000)


Result = dict[str, Any]


def sources_of(prefixes: tuple[str, ...]) -> list[str]:
    """Return the sources under test whose paths start with one of the prefixes."""
    paths = (str(path.relative_to(PACKAGE)) for path in sorted(PACKAGE.rglob("*.py")))
    return [path for path in paths if path.startswith(prefixes) and _is_target(path)]


def _is_target(path: str) -> bool:
    if path.startswith("kernels/") and Path(path).stem not in KERNELS:
        return False
    return path.startswith(TARGETS) and not path.startswith(LEFT_OUT)


def files_of(path: Path) -> list[Path]:
    """Return the test file, or the test files of the directory."""
    return [path.resolve()] if path.is_file() else sorted(path.resolve().rglob("test_*.py"))


def write_package(mutant: Mutant, folder: Path) -> None:
    """Write a package of links to the sources, except for the changed source."""
    original, copy = PACKAGE, folder / PACKAGE.name
    for name in Path(mutant.source).parts:
        copy.mkdir()
        for part in original.iterdir():
            if part.name not in {name, "__pycache__"}:
                (copy / part.name).symlink_to(part)
        original, copy = original / name, copy / name
    copy.write_bytes(mutant.code())


def fate_of(mutant: Mutant, coverage: Coverage, seconds: float) -> str:
    """Run the tests of a mutant, and return "killed", "survived", "timed out" or "stillborn"."""
    try:
        compile(mutant.code(), mutant.source, "exec")
    except SyntaxError:
        return "stillborn"
    tests = coverage.tests_of(mutant.source, mutant.scope, seconds)
    with tempfile.TemporaryDirectory() as folder:
        write_package(mutant, Path(folder))
        for batch in BATCHES:
            if tests:
                status = in_child(3 * seconds, partial(_run, folder, tests[:batch]))
                if status != 0:
                    return "timed out" if status is None else "killed"
            tests = tests[batch:]
    return "survived"


def _run(folder: str, tests: list[str]) -> int:
    os.environ["PYTHONPATH"] = f"{folder}:{ROOT}"
    sys.path.insert(0, folder)
    return pytest_main(tests)


def interval(killed: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a proportion."""
    z, share = 1.96, killed / total
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return (middle - half) / (1 + z * z / total), (middle + half) / (1 + z * z / total)


def report(results: list[Result]) -> list[Result]:
    """Print the share of killed mutants per area; return the survivors without a reason."""
    reasons = json.loads(REASONS.read_text("utf-8"))
    lived = [r for r in results if r["fate"] != "stillborn"]
    excused = [r for r in lived if r["fate"] == "survived" and r["key"] in reasons]
    left = [r for r in lived if r["fate"] == "survived" and r["key"] not in reasons]
    areas = Counter(_area(r) for r in lived if r not in excused)
    for area in [*sorted(areas), "all"] if areas else []:
        of = [r for r in lived if r not in excused and area in {_area(r), "all"}]
        red = sum(r["fate"] != "survived" for r in of)
        low, high = interval(red, len(of))
        same = sum(area in {_area(r), "all"} for r in excused)
        sys.stdout.write(
            f"{area:24s} {red} of {len(of)} killed: {red / len(of):.1%} ({low:.1%} to {high:.1%}),"
            f" {same} more change no result\n"
        )
    return left


def _area(result: Result) -> str:
    return str(Path(result["source"]).parent) if "/" in result["source"] else result["source"]


def main() -> None:
    """Draw a sample of mutants, run their tests, and print the result."""
    parser = argparse.ArgumentParser(prog="tests.mutation", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", nargs="*", default=TARGETS, help="prefixes of the sources to mutate"
    )
    parser.add_argument(
        "--tests", nargs="*", type=Path, default=TESTS, help="test files and directories"
    )
    parser.add_argument("--sample", type=int, default=40, help="number of mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--seconds", type=float, default=40.0, help="time limit of the tests of a mutant"
    )
    parser.add_argument("--minutes", type=float, default=1e6, help="time limit of the whole run")
    parser.add_argument("--results", type=Path, default=CACHE / "results.jsonl")
    parser.add_argument("--again", action="store_true", help="run earlier survivors again")
    parser.add_argument("--cache", type=Path, default=CACHE, help="directory of the test coverage")
    options = parser.parse_args()
    left = report(run(options))
    for r in left:
        sys.stdout.write(f"{r['key']} {r['source']}:{r['line']} {r['text']}\n")
        sys.stdout.write(f"  {r['kind']}: {r['before']}  ->  {r['after']}\n")


def run(options: argparse.Namespace) -> list[Result]:
    """Run the mutants of a sample that have no stored result."""
    for library in LIBRARIES:
        import_module(library)
    began = time.monotonic()
    coverage = Coverage(options.cache)
    coverage.read([file for path in options.tests for file in files_of(path)])
    known = _read(options.results)
    drawn = draw(sources_of(tuple(options.only)), options.seed)[: options.sample]
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with options.results.open("a", encoding="utf-8") as lines:
        for mutant in drawn:
            if time.monotonic() - began > 60 * options.minutes:
                break
            old = known.get(mutant.key)
            if old and not (options.again and old["fate"] == "survived"):
                continue
            start = time.monotonic()
            fate = fate_of(mutant, coverage, options.seconds)
            took = round(time.monotonic() - start, 1)
            known[mutant.key] = {**vars(mutant), "key": mutant.key, "fate": fate, "seconds": took}
            lines.write(json.dumps(known[mutant.key]) + "\n")
            lines.flush()
    return [known[mutant.key] for mutant in drawn if mutant.key in known]


def _read(results: Path) -> dict[str, Result]:
    if not results.is_file():
        return {}
    return {r["key"]: r for r in map(json.loads, results.read_text("utf-8").splitlines())}


if __name__ == "__main__":
    main()
