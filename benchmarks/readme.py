# SPDX-License-Identifier: Apache-2.0
"""Write README.md from the results: ``python benchmarks/readme.py``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from figures import Conditions, Measurement, Result, read, show

FOLDER = Path(__file__).parent
ORDER = (
    "against_pytorch",
    "against_openvino",
    "against_glue",
    "against_segmenters",
    "against_hyperfine",
    "scaling",
    "video",
    "serving",
    "overload",
    "tiling",
    "sizing",
    "soak",
    "cold_start",
    "precisions",
    "accuracy_of_precisions",
    "quantization_noise",
    "sessions_and_memory",
    "reading_images",
    "reading_manifests",
    "bytes_of_levels",
    "host_kernels",
    "compiling_kernels",
    "roi_pooling_body",
    "roi_pooling_stage",
    "exact_passes",
    "refinement",
    "factored_towers",
    "evaluation_scale",
    "training_loader",
    "data_loader",
    "training_steps",
    "six_drawings",
    "patch_context",
    "patch_recall",
    "presets",
    "choices_for_mini",
)
"""Files in ``results``, in the order of the sections."""

HEAD = """\
<!-- Written by benchmarks/readme.py from benchmarks/results; see CONTRIBUTING.md. -->
# Benchmarks

This page contains every measurement of Foveate, losses next to wins. It is generated from the files in `results/`: one
question per file, each table with the conditions under which it was measured. Times are medians, with quartiles in
parentheses; a ratio is the median of the ratios of paired runs, which alternate in one process. Text in place of a
figure with quartiles was recorded before the files had one form. No figure was measured on a GPU.

A table that was measured beside other work says so. Its ratios hold, because the work slows both of a pair; its times
do not.
"""


def main() -> None:
    """Write the README."""
    (FOLDER / "README.md").write_text(readme(), encoding="utf-8")


def readme() -> str:
    """Return the README.

    Raises:
        ValueError: A result does not have its form, or is not listed in ``ORDER``.
    """
    files = {file.stem: file for file in (FOLDER / "results").iterdir()}
    if set(files) != set(ORDER):
        raise ValueError(f"ORDER and results/ differ by {sorted(set(files) ^ set(ORDER))}")
    return "\n".join([HEAD, *("\n".join(_section(files[stem])) for stem in ORDER)])


def _section(file: Path) -> Iterator[str]:
    result = read(file)
    yield f"## {result.title}\n"
    yield from _paragraphs(result.question)
    yield from _commands(result)
    for one in result.measurements:
        yield from _paragraphs(one.caption)
        yield f"{_provenance(one.conditions)}\n"
        yield from _table(one)
    for note in result.notes:
        yield from _paragraphs(note)
    yield f"[Result](results/{file.name})\n"


def _commands(result: Result) -> Iterator[str]:
    commands = dict.fromkeys(one.conditions.command for one in result.measurements)
    lines = [f"$ {command}" for command in commands if command]
    if lines:
        yield "\n".join(["<!-- not run: takes minutes -->", "```console", *lines, "```\n"])


def _provenance(given: Conditions) -> str:
    parts = [
        given.machine,
        _counted(given.threads, "thread"),
        _counted(given.pairs, "round"),
        given.load,
        ", ".join(f"{name} {version}" for name, version in given.versions.items()),
        f"{given.date}, commit {given.commit}",
    ]
    return _wrapped(f"*{'; '.join(filter(None, parts))}*")


def _counted(number: int | None, what: str) -> str:
    return "" if number is None else f"{number} {what}{'' if number == 1 else 's'}"


def _table(one: Measurement) -> Iterator[str]:
    if not one.rows:
        return
    heads = [f" {head} " if head else " " for head in one.columns]
    lines = [f"|{'|'.join(heads)}|", "|---" * len(heads) + "|"]
    for row in one.rows:
        lines.append(f"| {' | '.join(show(cell) for cell in row)} |")
    yield "\n".join(lines) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    """Yield paragraphs, wrapped unless they are lists."""
    for paragraph in filter(None, text.split("\n\n")):
        listed = paragraph.startswith(("- ", "#"))
        yield (paragraph if listed else _wrapped(paragraph)) + "\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    main()
