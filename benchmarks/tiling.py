# SPDX-License-Identifier: Apache-2.0
"""What tiles find in large images, and what they cost.

    python benchmarks/tiling.py data/photographs --json benchmarks/results/tiling.json

The argument is a data set with masks. Its images are put next to each other on larger ones, whose
objects and annotations are therefore real and whose scenes are not. Every row has a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

import foveate
from figures import Cell, Figure, Measurement, Result, Start, begin, conditions, report
from foveate.arrays import UInt8Array
from foveate.evaluation import GroundTruth, evaluate
from foveate.results.window_mask import encode_runs
from foveate.runtime.tiling import Tiling
from measuring import parser_of

TITLE = "Large images in tiles"
QUESTION = """\
What tiles find in large images that the image shrunk to `max_side` (1024 pixels) does not show, and what they cost. The
images are montages of photographs with annotations, proposals are those of `mini`, and sizes are COCO's: an object is
small below 32 x 32 pixels of the montage, and large from 96 x 96. Times are from the name of a file to boxes and scores."""
CELL = (680, 512)
PHOTOGRAPH = (640, 480)
"""Width and height of a place of a montage, and of the photograph in it."""
FIGURES = (
    "mask AR@100",
    "mask AR@1000",
    *(f"mask AR@1000, {s}" for s in ("small", "medium", "large")),
)
COLUMNS = (
    "tiles",
    "parts",
    "time, s",
    "peak memory, GB",
    "AR@100",
    "AR@1000",
    "small",
    "medium",
    "large",
)


class Place(NamedTuple):
    """A photograph on a montage: column and row of its place, and its enlargement."""

    column: int
    row: int
    zoom: int


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, rounds=1)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--only", choices=("large", "sizes"))
    arguments = parser.parse_args()
    truth = GroundTruth.open(arguments.dataset)
    with tempfile.TemporaryDirectory() as directory:
        if arguments.only != "sizes":
            _measure_large(truth, Path(directory), arguments)
        if arguments.only != "large":
            _measure_sizes(truth, Path(directory), arguments)


def _measure_large(truth: GroundTruth, directory: Path, arguments: argparse.Namespace) -> None:
    """Measure one image of 50 megapixels."""
    # Of 3 x 3 blocks, three have a photograph each, two have four, and four have sixteen.
    blocks = [(4 * x, 4 * y) for x, y in product(range(3), range(3))]
    places = [
        Place(x + zoom * dx, y + zoom * dy, zoom)
        for (x, y), zoom in zip(blocks, (4, 2, 1, 1, 4, 1, 1, 2, 4), strict=True)
        for dx, dy in product(range(4 // zoom), range(4 // zoom))
    ]
    folder = _write(truth, [sorted(places, key=lambda one: one.zoom)], directory / "large")
    _report(
        "An image of 50 megapixels, 8160 x 6144, with each of the photographs once and eleven of them "
        "enlarged by 2 or 4 as well:",
        [
            ("off", _run(folder, tiles="off")),
            ("off, `top_k` 1000", _run(folder, tiles="off", top_k=1000)),
            ("2048 pixels", _run(folder, tiles=2048)),
            ("1024 pixels, as `auto`", _run(folder, tiles=1024)),
        ],
        arguments,
    )


def _measure_sizes(truth: GroundTruth, directory: Path, arguments: argparse.Namespace) -> None:
    """Measure images of several sizes, from a little larger than the working image."""
    for side, count in ((2, 4), (3, 2), (4, 2), (6, 1)):
        places = [Place(x, y, 1) for x, y in product(range(side), range(side))]
        folder = _write(truth, [places] * count, directory / f"side-{side}")
        width, height = side * CELL[0], side * CELL[1]
        _report(
            f"Images of {width} x {height} pixels with {side * side} photographs each; means of "
            f"{count}:",
            [("off", _run(folder, tiles="off")), ("1024 pixels", _run(folder, tiles=1024))],
            arguments,
        )


def _run(folder: Path, **options: Any) -> tuple[Start, tuple[Cell, ...]]:
    before = begin(pairs=1)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return before, pool.submit(_row, folder, options).result()


def _row(folder: Path, options: dict[str, Any]) -> tuple[Cell, ...]:
    """Return the cells of a row except the first; runs in a process of its own."""
    truth = GroundTruth.open(folder)
    chosen = foveate.PipelineOptions(**options)
    with foveate.load("mini", device="cpu", options=chosen) as pipeline:
        found = evaluate(pipeline, truth, task="proposals", most=1000)
        assert found.run is not None
        image = truth.images[0]
        parts = len(Tiling.of(chosen, pipeline.manifest).tiles(image.height, image.width))
    return (
        f"{parts}",
        Figure(value=float(found.run.seconds.mean())),
        Figure(value=found.run.peak_memory / 1e9),
        *(Figure(value=found.figures[name].value) for name in FIGURES),
    )


def _report(
    caption: str,
    rows: list[tuple[str, tuple[Start, tuple[Cell, ...]]]],
    arguments: argparse.Namespace,
) -> None:
    measured = Measurement(
        caption=caption,
        conditions=conditions(rows[0][1][0], "onnxruntime-gpu", "numpy"),
        columns=COLUMNS,
        rows=tuple((name, *cells) for name, (_, cells) in rows),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measured,)), arguments.json)


def _write(truth: GroundTruth, montages: list[list[Place]], folder: Path) -> Path:
    """Write montages of the photographs in turn, as a data set; places without one stay gray."""
    folder.mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    waiting = itertools.cycle(truth.images)
    for number, places in enumerate(montages, 1):
        width, height = (
            side * max(place[axis] + place.zoom for place in places)
            for axis, side in enumerate(CELL)
        )
        canvas = np.full((height, width, 3), 127, np.uint8)
        for index, place in enumerate(places):
            if place.zoom == 1 and index >= len(truth.images):
                continue
            photograph = next(waiting)
            size = _draw(canvas, photograph.path, place)
            for entry in truth.objects:
                if entry["image_id"] == photograph.identifier and not entry["iscrowd"]:
                    moved = _moved(entry, size, place, (height, width))
                    moved |= {"id": len(annotations) + 1, "image_id": number, "iscrowd": 0}
                    annotations.append(moved)
        name = f"{number}.ppm"
        cv2.imwrite(str(folder / name), canvas)
        images.append({"id": number, "file_name": name, "height": height, "width": width})
    categories = [{"id": number, "name": name} for name, number in truth.category_ids.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def _draw(canvas: UInt8Array, file: Path, place: Place) -> tuple[int, int]:
    """Draw a photograph, and return its width and height on the montage."""
    pixels = cv2.imread(str(file), cv2.IMREAD_COLOR)
    assert pixels is not None, file
    scale = place.zoom * min(PHOTOGRAPH[0] / pixels.shape[1], PHOTOGRAPH[1] / pixels.shape[0])
    width, height = round(scale * pixels.shape[1]), round(scale * pixels.shape[0])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    left, top = place.column * CELL[0], place.row * CELL[1]
    canvas[top : top + height, left : left + width] = cv2.resize(
        pixels, (width, height), interpolation=method
    )
    return width, height


def _moved(
    entry: dict[str, Any], size: tuple[int, int], place: Place, montage: tuple[int, int]
) -> dict[str, Any]:
    """Return the annotation of an object on the montage."""
    small = coco_mask.decode(entry["segmentation"])
    mask = cv2.resize(small, size, interpolation=cv2.INTER_NEAREST)
    left, top = place.column * CELL[0], place.row * CELL[1]
    changes = np.diff(np.pad(mask.T, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    columns, starts = np.nonzero(changes == 1)
    _, ends = np.nonzero(changes == -1)
    code = encode_runs(columns + left, starts + top, ends + top, *montage)
    return {
        "category_id": entry["category_id"],
        "segmentation": code,
        "bbox": coco_mask.toBbox(code).tolist(),
        "area": float(coco_mask.area(code)),
    }


if __name__ == "__main__":
    main()
