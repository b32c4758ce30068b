# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: runs in turns, their ratios, the photograph, processes, and the command line."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

import foveate
from figures import Figure
from foveate.arrays import UInt8Array

IMAGES = Path(foveate.__file__).parent / "assets" / "images"
"""The sample images."""

Seconds = dict[str, list[float]]
"""Seconds per round, by what ran."""


def parser_of(
    doc: str | None, *, rounds: int, threads: int | None = None
) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have.

    Args:
        doc: Docstring of the script, of which the first line is the description.
        rounds: Default number of rounds.
        threads: Default number of threads; None for a benchmark that has no such option.
    """
    parser = argparse.ArgumentParser(description=str(doc).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds, help="Runs of each, in turns.")
    parser.add_argument("--json", type=Path, help="File of the result.")
    if threads is not None:
        parser.add_argument("--threads", type=int, default=threads)
    return parser


def in_turns(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Seconds:
    """Run each once per round, in turns, and return the seconds without those of the warm-up."""
    seconds: Seconds = {name: [] for name in runs}
    for turn in range(warm_up + rounds):
        for name, run in runs.items():
            start = clock()
            run()
            if turn >= warm_up:
                seconds[name].append(clock() - start)
    return seconds


def ratio(numerator: list[float], denominator: list[float]) -> Figure:
    """Return the median and the quartiles of the ratios of paired runs."""
    return Figure.of([a / b for a, b in zip(numerator, denominator, strict=True)])


def photograph(width: int = 640, height: int = 480) -> UInt8Array:
    """Return the shipped photograph of a cat, scaled and cropped, (height, width, 3) uint8 RGB."""
    image = cv2.imread(str(IMAGES / "cat.jpg"), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    scale = max(height / image.shape[0], width / image.shape[1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    resized = cv2.resize(image, size, interpolation=method)
    return np.ascontiguousarray(resized[:height, :width]).astype(np.uint8)


def encoded(width: int = 640, height: int = 480) -> bytes:
    """Return the photograph as a JPEG of a width and height."""
    done, content = cv2.imencode(".jpg", photograph(width, height)[..., ::-1])
    assert done
    return content.tobytes()


def status_of(process: int | str = "self") -> dict[str, int]:
    """Return the numbers that Linux reports of a process, such as "Threads" and, in kB, "VmRSS"."""
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return {name: int(one) for name, one in re.findall(r"^(\w+):\s+(\d+)", text, re.MULTILINE)}


@contextmanager
def serving(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run ``foveate serve mini``; yield its URL and its process, which has ended afterwards."""
    command = [sys.executable, "-m", "foveate", "serve", "mini", "--port", "0", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split(" at ")[1].split()[0], process
        finally:
            process.terminate()
            process.wait(60)
