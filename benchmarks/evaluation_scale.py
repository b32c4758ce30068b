# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of evaluating results of as many images as COCO's validation set has.

    python benchmarks/evaluation_scale.py --json benchmarks/results/evaluation_scale.json

Images of 640 x 480 with 36,000 objects of 80 classes, and results near some of them, are drawn at
random; nothing of them is real but their number and size. `foveate evaluate --results` and
pycocotools read the same files, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from figures import Figure, Measurement, Result, begin, conditions, report
from measuring import parser_of

TITLE = "Evaluation of many images"
QUESTION = """\
How long evaluating the results of as many images as COCO's validation set has takes, and how much memory: drawn objects,
and drawn results near some of them, of which only number and size are real. `foveate evaluate --results` and pycocotools
read the same files, each in a process of its own. pycocotools measures masks only; Foveate measures masks and boxes,
checks every run-length code, and computes intervals from 1,000 replicates."""
HEIGHT, WIDTH, CLASSES = 480, 640, 80
SHAPES, NEAR = 300, 8
"""Outlines that are drawn once and used again, and how many each has that resemble it."""

PYCOCOTOOLS = """
import sys
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
truth = COCO(sys.argv[1])
run = COCOeval(truth, truth.loadRes(sys.argv[2]), "segm")
if sys.argv[3] == "proposals":
    run.params.useCats, run.params.maxDets = 0, [10, 100, int(sys.argv[4])]
run.evaluate()
run.accumulate()
if sys.argv[3] == "detections":
    run.summarize()
"""


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, rounds=1)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--objects", type=int, default=36_000)
    parser.add_argument("--results", type=int, default=100, help="Number per image.")
    parser.add_argument("--task", choices=("proposals", "detections"), default="detections")
    parser.add_argument("--ours-only", action="store_true")
    arguments = parser.parse_args()
    before = begin(pairs=arguments.rounds)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        truth, results = _write(folder, arguments)
        commands = {"Foveate": _foveate(folder, results, arguments)}
        if not arguments.ours_only:
            words = [arguments.task, str(arguments.results)]
            commands["pycocotools"] = ["-c", PYCOCOTOOLS, str(truth), str(results), *words]
        measured = {
            name: [_measure(command) for _ in range(arguments.rounds)]
            for name, command in commands.items()
        }
        size = results.stat().st_size
    measurement = Measurement(
        caption=(
            f"{arguments.results} {arguments.task} in each of {arguments.images:,} images with "
            f"{arguments.objects:,} objects of 80 classes, a file of {size / 1e6:.0f} MB:"
        ),
        conditions=conditions(before, "numpy", "pycocotools"),
        columns=("", "time, s", "processor time, s", "peak memory, GB"),
        rows=tuple(
            (name, *(Figure.of(column) for column in zip(*runs, strict=True)))
            for name, runs in measured.items()
        ),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


def _foveate(folder: Path, results: Path, arguments: argparse.Namespace) -> list[str]:
    words = ["-m", "foveate", "evaluate", "--dataset", str(folder), "--results", str(results)]
    if arguments.task == "proposals":
        words += ["--proposals", "--top-k", str(arguments.results)]
    return words


def _measure(command: list[str]) -> tuple[float, float, float]:
    """Run Python; return the seconds, the processor seconds and the peak memory in gigabytes."""
    code = (
        "import json, resource, subprocess, sys;"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss]))"
    )
    start = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", code, sys.executable, *command],
        check=True,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    processor, peak = json.loads(run.stdout)
    return seconds, processor, peak * 1024 / 1e9


def _write(folder: Path, arguments: argparse.Namespace) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    shapes = [_family(rng) for _ in range(SHAPES)]
    images = [
        {"id": number, "file_name": f"{number}.jpg", "height": HEIGHT, "width": WIDTH}
        for number in range(1, arguments.images + 1)
    ]
    annotations, held = [], [[] for _ in images]  # type: list[dict[str, Any]], list[list[tuple[int, int]]]
    for identifier, image in enumerate(rng.integers(len(images), size=arguments.objects), 1):
        shape, label = int(rng.integers(SHAPES)), int(rng.integers(CLASSES)) + 1
        held[image].append((shape, label))
        annotations.append(
            {
                "id": identifier,
                "image_id": int(image) + 1,
                "category_id": label,
                "iscrowd": 0,
                **shapes[shape][0],
            }
        )
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    truth, results = folder / "annotations.json", folder / "results.json"
    truth.write_text(json.dumps(content), encoding="utf-8")
    with results.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, objects in enumerate(held):
            drawn = _results(rng, number + 1, objects, shapes, arguments.results)
            file.write(", ".join(map(json.dumps, drawn)) + (", " if number + 1 < len(held) else ""))
        file.write("]")
    return truth, results


def _results(
    rng: np.random.Generator,
    image: int,
    objects: list[tuple[int, int]],
    shapes: list[list[dict[str, Any]]],
    count: int,
) -> list[dict[str, Any]]:
    """Results of an image, half of them near an object, of the classes of its objects or three more."""
    found = []
    labels = [label for _, label in objects] + (rng.integers(CLASSES, size=3) + 1).tolist()
    for score in np.round(rng.random(count), 4).tolist():
        shape, label = int(rng.integers(SHAPES)), labels[int(rng.integers(len(labels)))]
        if objects and rng.random() < 0.5:
            shape, label = objects[int(rng.integers(len(objects)))]
        mask = shapes[shape][int(rng.integers(NEAR))]
        segmentation = mask["segmentation"]
        found.append(
            {"image_id": image, "category_id": label, "score": score, "segmentation": segmentation}
        )
    return found


def _family(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Draw an outline with corners, and others that resemble it, as run-length codes."""
    radius = float(np.exp(rng.uniform(np.log(12), np.log(180))))
    center = rng.uniform((0.2 * WIDTH, 0.2 * HEIGHT), (0.8 * WIDTH, 0.8 * HEIGHT))
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    around = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.6, 1, (24, 1))
    family = []
    for _ in range(NEAR):
        outline = (
            center + rng.normal(0, 0.08 * radius, 2) + around * radius * rng.uniform(0.85, 1.1)
        )
        code = coco_mask.merge(coco_mask.frPyObjects([outline.ravel().tolist()], HEIGHT, WIDTH))
        family.append(
            {
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()},
                "bbox": coco_mask.toBbox(code).tolist(),
                "area": float(coco_mask.area(code)),
            }
        )
    return family


if __name__ == "__main__":
    main()
