# SPDX-License-Identifier: Apache-2.0
"""The Python and console blocks of a document, and how they are run.

A block runs unless a comment on the line before it gives a reason::

    <!-- not run: needs a GPU -->
    <!-- slow: trains for minutes -->

Slow blocks run with ``-m slow``. Lines of a console block that follow a command are its output,
in which ``...`` stands for any text.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.samples.paths import ROOT

from foveate.cli import invoke

BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>slow|not run): (?P<reason>.+?) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Args:
        language: Word after the fence.
        text: Content.
        mark: ``slow``, ``not run`` or an empty string.
        line: Line of the document where the block begins.
    """

    language: str
    text: str
    mark: str
    line: int

    @property
    def commands(self) -> Iterator[tuple[str, str]]:
        """Each command of a console block, and the output given for it."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def read_blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [
        Block(
            found["language"],
            found["text"],
            found["mark"] or "",
            text[: found.start()].count("\n") + 1,
        )
        for found in BLOCK.finditer(text)
    ]


def run_document(document: Path, *, slow: bool) -> list[str]:
    """Run a document's blocks in order, in the working directory; return what each printed."""
    namespace: dict[str, object] = {}
    printed = []
    for block in read_blocks(document):
        if block.mark == "not run" or (block.mark == "slow" and not slow):
            continue
        place = f"{document.name}, line {block.line}"
        if block.language == "python":
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(block.text, place, "exec"), namespace)  # noqa: S102 - our own document
            printed.append(output.getvalue())
        elif block.language == "console":
            printed.append("".join(check_command(*pair, place) for pair in block.commands))
    return printed


def check_command(command: str, expected: str, place: str) -> str:
    """Run a line of commands, compare its output, and return that with what it reported."""
    output = errors = ""
    for part in command.split(" && "):
        texts = run_command(shlex.split(part, comments=True), place)
        output, errors = output + texts[0], errors + texts[1]
    if expected.strip():
        pattern = re.escape(expected.strip()).replace(re.escape("..."), ".*")
        assert re.fullmatch(pattern, output.strip(), re.DOTALL), f"{place}: printed {output}"
    return output + errors


def run_command(words: list[str], place: str) -> tuple[str, str]:
    """Run one command; return its standard output and its standard error."""
    if words[0] == "foveate":
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status = invoke(words[1:])
        assert status == 0, f"{place}: {errors.getvalue()}"
        return output.getvalue(), errors.getvalue()
    assert words[0] == "python", f"{place}: no test runs {words[0]}, so mark the block 'not run'"
    script = [sys.executable, "-P", "-W", "error", str(ROOT / words[1]), *words[2:]]
    run = subprocess.run(script, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{place}: {run.stderr}"
    return run.stdout, run.stderr
