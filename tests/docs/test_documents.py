# SPDX-License-Identifier: Apache-2.0
"""Documents do not promise what is not there: their code runs, their links lead somewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "foveate"
CAT = PACKAGE / "assets" / "images" / "cat.jpg"
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(f for place in ("docs", "benchmarks", "recipes") for f in (ROOT / place).rglob("*.md")),
]

needs_mini = pytest.mark.skipif(
    not (PACKAGE / "assets" / "bundles" / "mini" / "manifest.json").is_file(),
    reason="the bundle mini is not in the package",
)


def code_blocks(file: Path, language: str) -> list[str]:
    text = file.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@needs_mini
def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(CAT, tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    blocks = code_blocks(ROOT / "README.md", "python")
    assert len(blocks) >= 3
    namespace: dict[str, object] = {}
    for number, block in enumerate(blocks, 1):
        code = compile(block, f"README.md, block {number}", "exec")
        exec(code, namespace)  # noqa: S102 - our own README


def test_the_readme_names_only_commands_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = set(re.findall(r"(?:`|\$ |&& )foveate ([a-z][a-z0-9-]*)", text))
    files = {command: f"{command.replace('-', '_')}.py" for command in commands}
    assert {"demo", "run", "evaluate"} <= commands
    assert [c for c, file in files.items() if not (PACKAGE / "cli" / file).is_file()] == []


def test_make_knows_the_targets_that_documents_name() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {
        target
        for file in DOCUMENTS
        for block in code_blocks(file, "console")
        for target in re.findall(r"\$ make ([a-z]+)", block)
    }
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (file.parent / target).exists()] == []


def run_example(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-P", "-W", "error", str(ROOT / "examples" / name)]
    run = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@needs_mini
def test_the_example_find_objects_runs(tmp_path: Path) -> None:
    run_example("find_objects.py", CAT, tmp_path / "overlay.png")
    assert (tmp_path / "overlay.png").stat().st_size > 10_000


@needs_mini
def test_the_example_proposals_to_coco_runs(tmp_path: Path) -> None:
    run_example("proposals_to_coco.py", tmp_path / "results.json", CAT, CAT)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert {result["image_id"] for result in results} == {1, 2}


def test_every_example_is_run_by_a_test() -> None:
    tested = set(re.findall(r"run_example\(\"(\w+\.py)\"", Path(__file__).read_text("utf-8")))
    assert {file.name for file in (ROOT / "examples").glob("*.py")} == tested


def test_every_photograph_has_its_licence_and_together_they_are_small() -> None:
    licences = (PACKAGE / "assets" / "images" / "LICENSES.md").read_text(encoding="utf-8")
    photographs = list((PACKAGE / "assets" / "images").glob("*.jpg"))
    assert [file.name for file in photographs if f"`{file.name}`" not in licences] == []
    assert sum(file.stat().st_size for file in photographs) <= 1_000_000
