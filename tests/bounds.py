# SPDX-License-Identifier: Apache-2.0
"""Test with the oldest and the newest dependencies that pyproject.toml allows: ``make bounds``.

This builds a wheel and installs it into new environments: once with the lowest version of every
dependency, once for each of the extras with a compiler of kernels with the lowest versions of these,
and once per Python on this machine with the newest versions and without extras. Each environment
runs the demo, a help text and some tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Tests that need neither PyTorch nor ONNX.
TESTS = (
    "results/test_masks.py",
    "images/test_decoding.py",
    "images/test_reading.py",
    "kernels/test_nms.py",
    "kernels/test_select_top_k.py",
    "kernels/test_compilers.py",
)
EXTRAS = ("cuda", "cuda12")
# Pillow 11.3 writes the TIFF files of the one incorrectly, and cannot read those of the other.
LEFT_OUT = (
    "images/test_reading.py::test_luma_and_chroma_become_rgb",
    "images/test_reading.py::test_colors_that_contain_their_alpha_are_not_multiplied_again[LA]",
)
HELP = "Find, outline and name the objects in images"


def main() -> int:
    """Check all environments; return 1 if one of them fails."""
    started, failed = time.monotonic(), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        oldest, *_ = pythons = interpreters()
        lowest = [f"{wheel}", *lowest_versions()]
        environments = {f"lowest versions, {oldest.name}": (oldest, lowest)}
        for extra in EXTRAS:
            requirements = [f"{wheel}[{extra}]", *lowest_versions(extra)]
            environments[f"lowest versions of the extra {extra}"] = (oldest, requirements)
        environments |= {f"newest versions, {one.name}": (one, [f"{wheel}"]) for one in pythons}
        for name, (python, requirements) in environments.items():
            try:
                check(python, requirements, Path(folder) / python.name)
                print(f"{name}: passed", flush=True)
            except subprocess.CalledProcessError as error:
                print(f"{name}: failed: {error}\n{error.stdout}", flush=True)
                failed.append(name)
    print(f"bounds: {time.monotonic() - started:.0f} s, {len(failed)} failed")
    return 1 if failed else 0


def lowest_versions(extra: str | None = None) -> list[str]:
    """Return the dependencies of the package, or of an extra, pinned to their lowest versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ranges = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [re.sub(r">=([\d.]+),<\d+", r"==\1", one) for one in ranges]


def interpreters() -> list[Path]:
    """Return a Python of each minor version from 3.11 that can create virtual environments."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = []
    for name in (f"python3.{minor}" for minor in range(11, 20)):
        for one in [shutil.which(name), *sorted(versions.glob(f"*/bin/{name}"))]:
            if (
                one
                and not subprocess.run(
                    [one, "-c", "import ensurepip"], check=False, capture_output=True
                ).returncode
            ):
                found.append(Path(one))
                break
    return found or [Path(sys.executable)]


def build_wheel(folder: Path) -> Path:
    """Build a wheel of the working tree, without files of earlier builds."""
    source = folder / "source"
    shutil.copytree(ROOT / "src/foveate", source / "src/foveate")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source)
    return next(folder.glob("*.whl"))


def check(python: Path, requirements: list[str], folder: Path) -> None:
    """Install the wheel into a new environment, and run everything in it."""
    run(python, "-m", "venv", "--clear", folder)
    run(folder / "bin/pip", "install", "--quiet", *requirements, "pytest>=8", "hypothesis>=6.100")
    foveate = folder / "bin/foveate"
    run(foveate, "demo", "--output", folder / "demo")
    assert HELP in run(foveate, "run", "--help")
    # conftest.py imports ONNX, and old releases use functions that new Pythons deprecate.
    options = ["--noconftest", "-p", "no:cacheprovider", "-o", "filterwarnings=", "--quiet"]
    options.append("--hypothesis-profile=ci")  # fixed examples without deadlines, as in conftest.py
    tests = [f"tests/{one}" for one in TESTS]
    options += [f"--deselect=tests/{one}" for one in LEFT_OUT]
    run(folder / "bin/python", "-m", "pytest", *options, *tests)


def run(*command: str | Path) -> str:
    """Run a command without the packages of the repository on its path; return its output."""
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        list(map(str, command)),
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
