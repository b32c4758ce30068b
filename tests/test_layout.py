# SPDX-License-Identifier: Apache-2.0
"""The shape of the repository: links, what a wheel holds, sizes, and who may import whom."""

from __future__ import annotations

import ast
import functools
import graphlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.samples.paths import PACKAGE, ROOT

LINKS = ("export", "runtime", "kernels")

# Longest file of the package, longest file of all others, and longest body of a function, in lines.
PACKAGE_FILE_CEILING, FILE_CEILING = 330, 400
FUNCTION_CEILING = 50

# Each part may import itself and the parts before it.
LAYERS = (
    "errors",
    "arrays",
    "plain_text",
    "typed_options",
    "progress",
    "system",
    "images",
    "results",
    "video",
    "bundle",
    "kernels",
    "runtime",
    "tracing",
    "selftest",
    "labeling",
    "datasets",
    "evaluation",
    "protocol",
    "bench",
    "page",
    "serve",
    "models",
    "importing",
    "export",
    "training",
    "cli",
)
# What the base install does not bring, and the parts that need it.
LEARNING = ("torch", "onnx", "onnxscript", "onnx_ir", "safetensors")
LEARNED = ("models", "importing", "export", "training", "cli")


def python_files(*places: str) -> list[Path]:
    files = (file for place in places for file in sorted((ROOT / place).rglob("*.py")))
    return [file for file in files if "__pycache__" not in file.parts]


def imported_names(file: Path) -> Iterator[str]:
    """Modules that a file imports anywhere in it, and what it takes out of them."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typed = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typed:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(module: str, part: str) -> bool:
    return module == part or module.startswith(f"{part}.")


@pytest.mark.parametrize("name", LINKS)
def test_links_at_the_root_lead_into_the_package(name: str) -> None:
    link = ROOT / name
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == (PACKAGE / name).resolve()
    assert link.is_dir()


@pytest.mark.parametrize("part", LAYERS)
def test_a_part_imports_only_parts_below_it(part: str) -> None:
    later = LAYERS[LAYERS.index(part) + 1 :]
    forbidden = [f"foveate.{name}" for name in later]
    forbidden += [] if part in LEARNED else LEARNING
    wrong = [
        f"{module} imports {name}"
        for module, names in imports().items()
        if is_within(module, f"foveate.{part}")
        for name in names
        if any(is_within(name, one) for one in forbidden)
    ]
    assert wrong == []


def test_every_part_has_a_layer() -> None:
    parts = {module.split(".")[1] for module in imports() if "." in module}
    assert parts - {"__main__"} == set(LAYERS)


def test_no_modules_import_each_other() -> None:
    """Late imports count; those that only a type checker follows do not."""
    graph = {module: (names & imports().keys()) - {module} for module, names in imports().items()}
    order = graphlib.TopologicalSorter(graph)
    order.prepare()  # raises CycleError, which names the circle


@functools.cache
def imports() -> dict[str, set[str]]:
    """Modules of the package, and the names that each of them imports when it runs."""
    found = {}
    for file in python_files("src"):
        name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = set(imported_names(file))
    return found


@pytest.mark.parametrize(
    "module",
    ["foveate", "foveate.runtime", "foveate.kernels", "foveate.cli", "foveate.results.detections"],
)
def test_the_base_install_suffices(module: str) -> None:
    """In a fresh process, since this one has imported everything."""
    code = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())
    assert module in loaded
    assert loaded.isdisjoint(LEARNING)


def test_no_file_is_too_long() -> None:
    files = python_files("src", "tests", "benchmarks", "examples", "recipes")
    files += [f for end in ("cu", "cuh", "cpp", "h") for f in PACKAGE.rglob(f"*.{end}")]
    long = {
        str(file.relative_to(ROOT)): count
        for file in files
        if (count := len(file.read_text(encoding="utf-8").splitlines()))
        > (PACKAGE_FILE_CEILING if file.is_relative_to(PACKAGE) else FILE_CEILING)
    }
    assert long == {}


def test_no_function_is_too_long() -> None:
    long = {
        name: count
        for file in python_files("src")
        for name, count in function_lengths(file)
        if count > FUNCTION_CEILING
    }
    assert long == {}


def function_lengths(file: Path) -> Iterator[tuple[str, int]]:
    """Lines of each function's body. A signature with its types, or a docstring, is no work."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node) is not None and len(node.body) > 1
            first = node.body[1] if documented else node.body[0]
            count = (node.end_lineno or 0) - first.lineno + 1
            yield f"{file.relative_to(PACKAGE).as_posix()}:{node.name}", count


def test_every_file_names_its_license() -> None:
    files = python_files("src", "tests", "benchmarks", "examples", "recipes")
    without = [
        str(file.relative_to(ROOT))
        for file in files
        if "SPDX-License-Identifier: Apache-2.0" not in file.read_text(encoding="utf-8")[:200]
    ]
    assert without == []


@pytest.mark.slow
def test_a_wheel_holds_every_module_and_every_data_file(tmp_path: Path) -> None:
    # From a copy: setuptools leaves build/ behind, and would pack what an earlier build left there.
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", copy / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", str(tmp_path), str(copy)],
        check=True,
        cwd=tmp_path,
    )
    with zipfile.ZipFile(next(tmp_path.glob("foveate-*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    source = copy / "src"
    files = (file for file in (source / "foveate").rglob("*") if file.is_file())
    expected = {file.relative_to(source).as_posix() for file in files}
    assert packed == expected
