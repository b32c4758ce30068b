# SPDX-License-Identifier: Apache-2.0
"""Build the documentation site in ``build/documentation/site``, and fail on a dead link.

python docs/build.py

The sources are Markdown files whose links work in the repository. Before Zensical renders them,
they are copied to ``build/documentation/docs``: links to files outside the site become plain text, and the
pages of the API and of the commands are written from ``tests/public_names.txt`` and ``--help``.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import groupby
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "documentation"
SITE = BUILD / "site"

# Documents that live beside what they describe, and where the site shows them.
ELSEWHERE = {
    "benchmarks/README.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "recipes/mini/README.md": "reference/mini-data.md",
    "recipes/voc4/README.md": "reference/voc4.md",
    "src/foveate/assets/bundles/mini/README.md": "reference/model-card.md",
    "src/foveate/assets/images/LICENSES.md": "reference/image-licenses.md",
}
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
ROLE = re.compile(r":[a-z]+:`~?([^`]+)`")
# Classes of elements for which Zensical's script fetches another script.
FETCHING = {"mermaid", "glightbox", "pyodide"}
# An entry of the navigation that ends in a slash stands for all pages of that directory.
FOLDER = re.compile(r'"([\w/-]+/)"')


def main() -> int:
    """Assemble, render and check the site; return the exit status."""
    shutil.rmtree(BUILD, ignore_errors=True)
    assemble(BUILD / "docs")
    copy_sources(BUILD / "src")
    config = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    config = FOLDER.sub(lambda folder: navigation(folder[1]), config)
    (BUILD / "zensical.toml").write_text(config, encoding="utf-8")
    build = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
        cwd=BUILD,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    if build.returncode != 0:
        print(build.stdout, build.stderr, sep="\n", file=sys.stderr)
        return 1
    faults = list(find_faults(SITE))
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print(f"Documentation: {SITE / 'index.html'}")
    return 1 if faults else 0


# --- sources -----------------------------------------------------------------------------------


def assemble(target: Path) -> None:
    """Copy every document to its place in the site, and write the generated ones."""
    pages = {
        file: file.relative_to(ROOT / "docs").as_posix()
        for file in (ROOT / "docs").rglob("*.*")
        if file.suffix != ".py" and "__pycache__" not in file.parts
    }
    pages |= {ROOT / source: page for source, page in ELSEWHERE.items()}
    generated = {**api_pages(), **command_pages()}
    for page, text in generated.items():
        write(target / page, text)
    for file, page in pages.items():
        if file.suffix == ".md":
            write(target / page, rewrite_links(file, pages, set(generated)))
        else:
            (target / page).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / page)


def copy_sources(target: Path) -> None:
    """Copy the modules whose docstrings are shown; roles of Sphinx become plain names."""
    for file in (ROOT / "src").rglob("*.py"):
        text = ROLE.sub(r"`\1`", file.read_text(encoding="utf-8"))
        write(target / file.relative_to(ROOT / "src"), text)


def write(file: Path, text: str) -> None:
    """Write a page, and the directory that holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def rewrite_links(file: Path, pages: dict[Path, str], generated: set[str]) -> str:
    """Return a document whose links lead to pages of the site.

    Args:
        file: The document in the repository.
        pages: Every file that the site shows, and its place there.
        generated: Places of pages that no file of the repository holds.
    """
    here = Path(pages[file]).parent

    def replace(link: re.Match[str]) -> str:
        image, label, address = link.groups()
        path, mark, anchor = address.partition("#")
        if "://" in address or not path:
            return link[0]
        target = Path(os.path.normpath(file.parent / path))
        page = pages.get(target)
        if page is None and target.is_relative_to(ROOT / "docs"):
            place = target.relative_to(ROOT / "docs").as_posix()
            page = place if place in generated else None
        if page is not None:
            return f"{image}[{label}]({os.path.relpath(page, here)}{mark}{anchor})"
        return label if target.exists() else link[0]  # Zensical reports the dead ones

    text = file.read_text(encoding="utf-8")
    parts, end = [], 0
    for block in FENCE.finditer(text):  # code shows brackets that are no links
        parts += [LINK.sub(replace, text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, LINK.sub(replace, text[end:])])


def api_pages() -> dict[str, str]:
    """Return one page for each package with public names, which mkdocstrings fills."""
    names = (ROOT / "tests" / "public_names.txt").read_text(encoding="utf-8").split()
    names = sorted(set(names), key=lambda name: (name.rpartition(".")[0], name.casefold()))
    pages = {}
    for package, members in groupby(names, key=lambda name: name.rpartition(".")[0]):
        entries = "\n".join(f"::: {name}\n" for name in members)
        pages[f"reference/api/{package}.md"] = f"# {package}\n\n{entries}"
    return pages


def command_pages() -> dict[str, str]:
    """Return one page for each command, with the text of its ``--help``."""
    pages = {}
    for name in subcommands(command_help("--help")):
        text = command_help(name, "--help")
        page = f"# foveate {name}\n\n```text\n{text.strip()}\n```\n"
        for action in subcommands(text):
            text = command_help(name, action, "--help").strip()
            page += f"\n## foveate {name} {action}\n\n```text\n{text}\n```\n"
        pages[f"reference/commands/{name}.md"] = page
    return pages


def subcommands(text: str) -> list[str]:
    """Return the names of the commands that a help text lists."""
    listing = text.partition("Commands:\n")[2]
    return re.findall(r"^  ([a-z][a-z0-9-]*)  ", listing, re.MULTILINE)


def command_help(*arguments: str) -> str:
    """Return what the command line prints for arguments."""
    from foveate.cli import invoke  # noqa: PLC0415 - the check of a site needs no package

    output = io.StringIO()
    os.environ["COLUMNS"] = "100"
    with contextlib.redirect_stdout(output):
        status = invoke(arguments)
    if status != 0:
        raise SystemExit(f"foveate {' '.join(arguments)} ended with status {status}")
    return output.getvalue()


def navigation(folder: str) -> str:
    """Return the navigation of a directory's pages in TOML, by their first headings."""
    entries = []
    for page in sorted((BUILD / "docs" / folder).glob("*.md")):
        heading = page.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
        title = heading.replace("`", "").replace('"', "'")
        entries.append(f'{{ "{title}" = "{folder}{page.name}" }}')
    return f"[{', '.join(entries)}]"


# --- the finished site -------------------------------------------------------------------------


class Page(HTMLParser):
    """The anchors, links and loaded files of an HTML page.

    Args:
        file: The page.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.classes: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag defines, links to or loads."""
        values = dict(attrs)
        self.anchors |= {str(values[key]) for key in ("id", "name") if values.get(key)}
        self.classes |= set((values.get("class") or "").split())
        address = values.get("src") or values.get("href")
        if address is not None:
            (self.links if tag in {"a", "area"} else self.loaded).append(address)


def find_faults(site: Path) -> Iterator[str]:
    """Name each link that leads nowhere, and each file that a page loads from a network.

    Args:
        site: The directory of the site.
    """
    pages = {file: Page(file) for file in sorted(site.rglob("*.html")) if file.name != "404.html"}
    for file, page in pages.items():
        name = file.relative_to(site)
        for word in sorted(page.classes & FETCHING):
            yield f"{name}: the script for {word} would come from a network"
        for address in page.loaded:
            if re.match(r"(https?:)?//", address):
                yield f"{name}: loads {address} from a network"
        for address in page.links + page.loaded:
            path, _, anchor = unquote(address).partition("#")
            if re.match(r"[a-z]+:|//", address):
                continue
            target = Path(os.path.normpath(file.parent / path.partition("?")[0])) if path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name}: {address} leads nowhere"
            elif anchor and target in pages and anchor not in pages[target].anchors:
                yield f"{name}: there is no anchor {address}"
    for style in site.rglob("*.css"):
        if re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")):
            yield f"{style.relative_to(site)}: loads from a network"


if __name__ == "__main__":
    sys.exit(main())
