# SPDX-License-Identifier: Apache-2.0
"""Loading against arithmetic: is DeepMask's training bound by its step, or by drawing batches?

    python benchmarks/training_loader.py --json benchmarks/results/training_loader.json

Both run in one process, in turns: batches drawn by the loader alone, then steps alone on a batch
that is already there. Ratios are taken round by round. The loader should be at least 3 times as
fast as the step. Without --dataset, a set is composed of the shipped photographs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from figures import Figure, Measurement, Result, begin, conditions, report
from foveate.datasets import CocoDataset, find_splits
from foveate.evaluation.legacy import LegacyOptions
from foveate.models import DeepMask, build
from foveate.training.distributed import World
from foveate.training.loader import PREFETCH, Drawn, Loader
from foveate.training.original.batches import window_source
from foveate.training.original.objectives import DeepMaskObjective
from foveate.training.original.schedules import DEEPMASK
from foveate.training.original.sgd import SgdTraining, choose_precision
from measuring import IMAGES, parser_of, ratio

TITLE = "Loading against arithmetic"
QUESTION = """\
Whether a training is limited by its step or by drawing batches: the loader alone, and the step alone on an existing
batch, in turns in one process. A step that takes three times as long as drawing its batch hides it."""


class Kept:
    """A stand-in for a loader that returns the same batch at every step."""

    def __init__(self, drawn: Drawn):
        self._drawn = drawn

    def take(self, step: int) -> Drawn:
        """Return the batch."""
        del step
        return self._drawn


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, rounds=7, threads=2)
    parser.add_argument("--network", default="deepmask-resnet50")
    parser.add_argument("--dataset", type=Path, help="Data set in COCO's format.")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, default=8, help="Batches drawn per round.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", default="float32")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    before = begin(threads=arguments.threads, pairs=arguments.rounds)
    with tempfile.TemporaryDirectory() as directory:
        place = arguments.dataset or _composed(Path(directory))
        rounds = _measure(find_splits(place).train, arguments)
    loading, stepping = ([one[index] for one in rounds] for index in (0, 1))
    measurement = Measurement(
        caption=(
            f"`{arguments.network}` as published, batches of {arguments.batch}, {arguments.precision}, "
            f"{arguments.workers} worker processes:"
        ),
        conditions=conditions(before, "torch", "numpy"),
        columns=("drawing a batch, s", "a step, s", "step relative to drawing"),
        rows=((Figure.of(loading), Figure.of(stepping), ratio(stepping, loading)),),
    )
    report(Result(title=TITLE, question=QUESTION, measurements=(measurement,)), arguments.json)


def _measure(dataset: CocoDataset, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """Return (seconds per drawn batch, seconds per step) of each round."""
    schedule = DEEPMASK.shortened(batch=arguments.batch)
    torch.manual_seed(0)
    network = build(arguments.network)
    assert isinstance(network, DeepMask)
    source = window_source(
        network, dataset, LegacyOptions(), score_share=schedule.score_share, seed=0
    )
    world = World(device=torch.device("cpu"))
    loader = Loader(
        source,
        indices=range(arguments.batch),
        seed=0,
        steps=schedule.steps,
        workers=arguments.workers,
    )
    # Its workers, if any, start here, so that the step is not timed beside their imports.
    drawn = loader.take(0)
    work = SgdTraining(
        DeepMaskObjective(network),
        schedule,
        Kept(drawn),  # type: ignore[arg-type]  # a stand-in for a loader
        world,
        precision=choose_precision(arguments.precision, world.device),
    )
    work.step(0)
    done, rounds = 1, []
    with loader:
        for number in range(arguments.rounds + 1):
            start = time.perf_counter()
            for _ in range(arguments.batches):
                loader.take(done)
                done += 1
            loading = (time.perf_counter() - start) / arguments.batches
            # Let the workers fill their buffer, so that they rest while the step is timed; it is
            # emptied again before the next round's clock starts.
            time.sleep(PREFETCH * loading + 0.5)
            start = time.perf_counter()
            work.step(number)
            stepping = time.perf_counter() - start
            for _ in range(PREFETCH * max(1, arguments.workers)):
                loader.take(done)
                done += 1
            if number:
                rounds.append((loading, stepping))
    return rounds


def _composed(directory: Path) -> Path:
    """Write 640 x 480 JPEGs with eight polygons each, as large as COCO's."""
    photographs = sorted(IMAGES.glob("*.jpg"))
    rng = np.random.default_rng(0)
    (directory / "train" / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, 41):
        image = cv2.imread(str(photographs[number % len(photographs)]))
        assert image is not None
        name = f"{number}.jpg"
        resized = cv2.resize(image, (640, 480))
        cv2.imwrite(str(directory / "train" / "images" / name), resized)
        images.append({"id": number, "file_name": name, "width": 640, "height": 480})
        for _ in range(8):
            center, radius = rng.uniform((100, 100), (540, 380)), rng.uniform(15, 95)
            angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
            spread = radius * rng.uniform(0.7, 1.0, 40)
            outline = center + spread[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            low, high = outline.min(0), outline.max(0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": [outline.ravel().tolist()],
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "area": float((high - low).prod()),
                    "iscrowd": 0,
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }
    (directory / "train" / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    return directory


if __name__ == "__main__":
    main()
