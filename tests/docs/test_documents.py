# SPDX-License-Identifier: Apache-2.0
"""Documents do not promise what is not there: their code runs, their links lead somewhere."""

from __future__ import annotations

import functools
import json
import re
import shutil
from pathlib import Path

import pytest
from tests.docs.blocks import read_blocks, run_command, run_document
from tests.samples.paths import IMAGES, PACKAGE, ROOT
from tests.test_layout import LAYERS

DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(f for place in ("docs", "benchmarks", "recipes") for f in (ROOT / place).rglob("*.md")),
]
GENERATED = ("reference/commands/", "reference/api/")  # written by docs/build.py
DECISIONS = ROOT / "docs" / "explanation" / "decisions"
# The documents with blocks of each kind. Tests of their own run these two.
OWN_TEST = {ROOT / "docs" / one for one in ("tutorial/train-your-own.md", "how-to/backbones.md")}
RUNNABLE = [
    file
    for file in DOCUMENTS
    if file not in OWN_TEST
    and any(b.language in {"python", "console"} and b.mark != "not run" for b in read_blocks(file))
]
SLOW = [file for file in RUNNABLE if any(block.mark == "slow" for block in read_blocks(file))]


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with what the documents take for granted."""
    shutil.copy(IMAGES / "cat.jpg", tmp_path / "photo.jpg")
    (tmp_path / "images").mkdir()
    for image in ("cat.jpg", "flower.jpg"):
        shutil.copy(IMAGES / image, tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("file", RUNNABLE, ids=name)
def test_the_blocks_of_a_document_run(file: Path, desk: Path) -> None:
    assert run_document(file, slow=False) or file in SLOW


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("file", SLOW, ids=name)
def test_all_blocks_of_a_document_run(file: Path, desk: Path) -> None:
    assert run_document(file, slow=True)


def test_the_readme_and_the_first_tutorial_have_blocks_that_run() -> None:
    assert {"README.md", "docs/tutorial/first-steps.md"} <= {name(file) for file in RUNNABLE}


def test_documents_name_only_commands_that_exist() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in DOCUMENTS)
    commands = set(re.findall(r"(?:`|\$ |&& )foveate ([a-z][a-z0-9-]*)", text))
    assert {"demo", "run", "evaluate"} <= commands
    assert commands <= existing_commands()


def existing_commands() -> set[str]:
    listing = run_command(["foveate", "--help"], "help")[0].partition("Commands:")[2]
    return set(re.findall(r"^  ([a-z][a-z0-9-]*) ", listing, re.MULTILINE))


@functools.cache
def options_of(*command: str) -> frozenset[str]:
    help_text, _ = run_command(["foveate", *command, "--help"], "help")
    return frozenset(re.findall(r"--[a-z][a-z0-9-]*", help_text))


def test_documents_give_commands_only_options_that_exist() -> None:
    """Console blocks that are not run, and commands in the text, are checked as well."""
    existing, missing, groups = existing_commands(), [], {"bench", "cache", "kernels"}
    for file in DOCUMENTS:
        if file.name == "CHANGELOG.md":
            continue
        text = file.read_text(encoding="utf-8")
        for command, rest in re.findall(r"foveate ([a-z][a-z0-9-]*)((?: [^`\n&#]*)?)", text):
            if command in existing:
                words = [command, *re.findall(r"^ ([a-z]+)\b", rest)][
                    : 2 if command in groups else 1
                ]
                known = options_of(*words)
                options = re.findall(r"(?<= )--[a-z][a-z0-9-]*", rest)
                missing += [f"{name(file)}: {command} {o}" for o in options if o not in known]
    assert missing == []


def test_make_knows_the_targets_that_documents_name() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {
        target
        for file in DOCUMENTS
        for block in read_blocks(file)
        if block.language == "console"
        for target in re.findall(r"\$ make ([a-z]+)", block.text)
    }
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("file", DOCUMENTS, ids=name)
def test_relative_links_lead_somewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    local = [target for target in targets if "://" not in target]
    missing = [target for target in local if not (file.parent / target).exists()]
    assert [target for target in missing if not target.startswith(GENERATED)] == []


@pytest.mark.parametrize("file", DOCUMENTS, ids=name)
def test_paths_of_the_repository_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.-])(?:src|tests|docs|benchmarks|recipes)/[\w./-]*\w", text)
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_excerpts_of_device_code_are_in_the_sources() -> None:
    folder = PACKAGE / "kernels" / "plugins" / "roi_max_pool"
    sources = [file.read_text(encoding="utf-8") for file in folder.iterdir() if file.is_file()]
    blocks = read_blocks(ROOT / "docs" / "tutorial" / "roi-pooling.md")
    excerpts = [block.text for block in blocks if block.language == "cpp"]
    assert len(excerpts) == 3
    assert [text for text in excerpts if not any(text in source for source in sources)] == []


def test_the_table_of_packages_is_in_the_order_of_their_imports() -> None:
    text = (ROOT / "docs" / "explanation" / "cascade.md").read_text(encoding="utf-8")
    table = text.partition("| package | contents |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert re.findall(r"`(\w+)`", " ".join(rows)) == list(LAYERS)


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 120] == []


def test_every_decision_has_a_title_and_a_date_and_is_listed_once() -> None:
    index = (DECISIONS / "index.md").read_text(encoding="utf-8")
    files = sorted(DECISIONS.glob("[0-9]*.md"))
    assert len(files) == len(list(DECISIONS.iterdir())) - 1  # all but the index
    assert [file.name[:4] for file in files] == [f"{n:04d}" for n in range(1, len(files) + 1)]
    for file in files:
        head = re.match(r"# (.+)\n\nDate: (\d{4}-\d\d-\d\d)\n", file.read_text("utf-8"))
        assert head is not None, file.name
        title, date = head.groups()
        assert index.count(f"[{title}]({file.name}), {date}\n") == 1


def test_the_example_find_objects_runs(desk: Path) -> None:
    run_command(["python", "examples/find_objects.py", "photo.jpg", "overlay.png"], "example")
    assert (desk / "overlay.png").stat().st_size > 10_000


def test_the_example_proposals_to_coco_runs(desk: Path) -> None:
    words = ["python", "examples/proposals_to_coco.py", "results.json", "photo.jpg", "photo.jpg"]
    run_command(words, "example")
    results = json.loads((desk / "results.json").read_text(encoding="utf-8"))
    assert {result["image_id"] for result in results} == {1, 2}


def test_every_example_is_run_by_a_test() -> None:
    files = [Path(__file__), ROOT / "tests" / "simulated_gpu" / "test_examples.py"]
    files += (ROOT / "tests" / "examples").glob("test_*.py")
    text = "".join(file.read_text("utf-8") for file in files)
    tested = set(re.findall(r"\"examples(?:/|\" / \")(\w+\.py)\"", text))
    assert {file.name for file in (ROOT / "examples").glob("*.py")} == tested


def test_every_photograph_has_its_license_and_together_they_are_small() -> None:
    licenses = (IMAGES / "LICENSES.md").read_text(encoding="utf-8")
    photographs = list(IMAGES.glob("*.jpg"))
    assert [file.name for file in photographs if f"`{file.name}`" not in licenses] == []
    assert sum(file.stat().st_size for file in photographs) <= 1_000_000
