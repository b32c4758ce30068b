# SPDX-License-Identifier: Apache-2.0
"""The documentation site: what is assembled for it, and the check of what was rendered."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from tests.samples.paths import ROOT

PAGE = """<html><head><link href="style.css" rel="stylesheet"><script src="code.js"></script></head>
<body><h2 id="here">A</h2><a href="other/#there">B</a><a href="https://example.org/">C</a>
<img src="image.png"></body></html>"""


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site of two pages without a fault."""
    (tmp_path / "other").mkdir()
    (tmp_path / "index.html").write_text(PAGE, encoding="utf-8")
    (tmp_path / "other" / "index.html").write_text('<p id="there">', encoding="utf-8")
    for name in ("style.css", "code.js", "image.png"):
        (tmp_path / name).write_text("", encoding="utf-8")
    return tmp_path


def change(site: Path, old: str, new: str) -> None:
    assert old in PAGE
    (site / "index.html").write_text(PAGE.replace(old, new), encoding="utf-8")


def test_every_page_is_in_the_navigation(build: ModuleType) -> None:
    entries = re.findall(r'= "([\w./-]+)"', (ROOT / "zensical.toml").read_text(encoding="utf-8"))
    folders = tuple(entry for entry in entries if entry.endswith("/"))
    sources = (file.relative_to(ROOT / "docs") for file in (ROOT / "docs").rglob("*.md"))
    pages = [*(source.as_posix() for source in sources), *build.ELSEWHERE.values()]
    assert [one for one in pages if one not in entries and not one.startswith(folders)] == []


def test_a_sound_site_has_no_faults(build: ModuleType, site: Path) -> None:
    assert list(build.find_faults(site)) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("other/#there", "others/#there", "index.html: others/#there leads nowhere"),
        ("other/#there", "other/#elsewhere", "index.html: there is no anchor other/#elsewhere"),
        ("other/#there", "#there", "index.html: there is no anchor #there"),
        ("image.png", "picture.png", "index.html: picture.png leads nowhere"),
        (
            "style.css",
            "https://fonts.example.org/css",
            "index.html: loads https://fonts.example.org/css from a network",
        ),
        (
            '<h2 id="here">',
            '<h2 id="here" class="large mermaid">',
            "index.html: the script for mermaid would come from a network",
        ),
        (
            "code.js",
            "//cdn.example.org/x.js",
            "index.html: loads //cdn.example.org/x.js from a network",
        ),
    ],
)
def test_a_fault_is_named(build: ModuleType, site: Path, old: str, new: str, fault: str) -> None:
    change(site, old, new)
    assert list(build.find_faults(site)) == [fault]


def test_a_style_that_loads_a_font_is_named(build: ModuleType, site: Path) -> None:
    (site / "style.css").write_text("src: url( 'https://example.org/font.woff')", encoding="utf-8")
    assert list(build.find_faults(site)) == ["style.css: loads from a network"]


def test_every_command_gets_a_page_with_its_help(build: ModuleType) -> None:
    pages = build.command_pages()
    assert {"run", "train", "import-torch7"} <= {Path(page).stem for page in pages}
    assert "--score-threshold" in pages["reference/commands/run.md"]


def test_every_public_name_gets_an_entry(build: ModuleType) -> None:
    text = "".join(build.api_pages().values())
    names = (ROOT / "tests" / "public_names.txt").read_text(encoding="utf-8").split()
    assert sorted(re.findall(r"^::: (\S+)$", text, re.MULTILINE)) == sorted(names)


def test_links_are_rewritten_for_the_site(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "ROOT", tmp_path)
    page, notes = tmp_path / "docs" / "a" / "page.md", tmp_path / "notes" / "README.md"
    for file in (page, notes, tmp_path / "code.py"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    page.write_text(
        "[notes](../../notes/README.md#x) [code](../../code.py) [help](../b/run.md) [dead](no.md)\n"
        "```text\n[code](../../code.py)\n```\n",
        encoding="utf-8",
    )
    text = build.rewrite_links(page, {page: "a/page.md", notes: "notes.md"}, {"b/run.md"})
    assert text == (
        "[notes](../notes.md#x) code [help](../b/run.md) [dead](no.md)\n"
        "```text\n[code](../../code.py)\n```\n"
    )


def test_the_gallery_is_small_and_shows_every_sample_image() -> None:
    overlays = list((ROOT / "docs" / "images" / "gallery").iterdir())
    images = (ROOT / "src" / "foveate" / "assets" / "images").glob("*.jpg")
    assert {file.name for file in overlays} == {f"{image.stem}-overlay.jpg" for image in images}
    assert sum(file.stat().st_size for file in overlays) < 600_000
    text = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert [file.name for file in overlays if f"images/gallery/{file.name})" not in text] == []
