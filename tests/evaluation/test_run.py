# SPDX-License-Identifier: Apache-2.0
"""A pipeline is run, timed, measured and reported."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from rich.console import Console

from foveate.errors import DataError
from foveate.evaluation import Bootstrap, GroundTruth, Report, evaluate, predict

SIZE = (60, 80)
FEW = Bootstrap(replicates=20)


def encode(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[y : y + height, x : x + width] = 1
    rle: dict[str, Any] = coco_mask.encode(mask)
    return rle


@dataclass(frozen=True)
class Masks:
    masks: list[dict[str, Any]]

    def rle(self) -> list[dict[str, Any]]:
        return self.masks


@dataclass(frozen=True)
class Found:
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    masks: Masks
    labels: NDArray[np.int64]
    class_names: tuple[str, ...] = ("unknown", "boat", "cat")


class Precomputed:
    """A pipeline that knows the answer of each image by the name of its file."""

    def __init__(self, answers: dict[str, Found]) -> None:
        self.answers = answers
        self.asked: list[Path] = []

    def propose(self, image: Path, /) -> Found:
        self.asked.append(image)
        return self.answers[image.name]

    def __call__(self, image: Path, /) -> Found:
        return self.propose(image)


def found(*boxes: tuple[int, int, int, int], labels: tuple[int, ...]) -> Found:
    corners = [(x, y, x + width, y + height) for x, y, width, height in boxes]
    return Found(
        boxes=np.array(corners, np.float32).reshape(-1, 4),
        scores=np.linspace(0.9, 0.5, len(boxes), dtype=np.float32),
        masks=Masks([encode(*box) for box in boxes]),
        labels=np.array(labels, np.int64),
    )


@pytest.fixture
def truth() -> GroundTruth:
    objects = [(1, 7, (10, 10, 20, 20)), (2, 7, (30, 5, 40, 40)), (2, 4, (0, 0, 9, 9))]
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in (2, 1)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 4, "name": "boat"}],
        "annotations": [
            {"id": i, "image_id": record, "category_id": category, "segmentation": encode(*box)}
            for i, (record, category, box) in enumerate(objects, 1)
        ],
    }
    return GroundTruth(content, images=Path("images"), name="two images")


@pytest.fixture
def perfect() -> Precomputed:
    return Precomputed(
        {
            "1.jpg": found((10, 10, 20, 20), labels=(2,)),
            "2.jpg": found((30, 5, 40, 40), (0, 0, 9, 9), labels=(2, 1)),
        }
    )


def run(pipeline: Precomputed, truth: GroundTruth, task: Any) -> Report:
    return evaluate(pipeline, truth, task=task, name="perfect", backend="torch", resampling=FEW)


def test_perfect_detections_have_an_average_precision_of_one(
    perfect: Precomputed, truth: GroundTruth
) -> None:
    figures = run(perfect, truth, "detections").figures
    assert figures["mask AP"].value == pytest.approx(1.0)
    assert figures["box AP"].value == pytest.approx(1.0)
    assert figures["mask AP, class boat"].value == pytest.approx(1.0)


def test_perfect_proposals_overlap_fully(perfect: Precomputed, truth: GroundTruth) -> None:
    figures = run(perfect, truth, "proposals").figures
    assert figures["mean best overlap"].value == pytest.approx(1.0)


def test_images_are_asked_for_in_the_order_of_their_ids(
    perfect: Precomputed, truth: GroundTruth
) -> None:
    seen: list[tuple[int, int]] = []
    taken: list[tuple[int, int]] = []
    run = predict(
        perfect,
        truth,
        task="proposals",
        take=lambda image, results: taken.append((image.identifier, len(results))),
        progress=lambda _task, done, total, *_: seen.append((done, total)),
    )
    assert perfect.asked == [Path("images/1.jpg"), Path("images/2.jpg")]
    assert seen == [(1, 2), (2, 2)]
    assert taken == [(1, 1), (2, 2)]
    assert run.counts.tolist() == [1, 2]


def test_an_image_without_results_is_no_trouble(truth: GroundTruth) -> None:
    pipeline = Precomputed({"1.jpg": found(labels=()), "2.jpg": found(labels=())})
    assert run(pipeline, truth, "detections").figures["mask AP"].value == 0


def test_a_class_that_the_data_set_lacks_is_left_out(truth: GroundTruth) -> None:
    pipeline = Precomputed(
        {
            "1.jpg": found((0, 0, 5, 5), (10, 10, 20, 20), labels=(0, 2)),
            "2.jpg": found((30, 5, 40, 40), (0, 0, 9, 9), labels=(2, 1)),
        }
    )
    assert run(pipeline, truth, "detections").figures["mask AP"].value == pytest.approx(1.0)


def test_no_class_in_common_is_an_error_that_names_both(truth: GroundTruth) -> None:
    strange = Found(
        boxes=np.zeros((0, 4), np.float32),
        scores=np.zeros(0, np.float32),
        masks=Masks([]),
        labels=np.zeros(0, np.int64),
        class_names=("planet",),
    )
    pipeline = Precomputed({"1.jpg": strange})
    with pytest.raises(DataError, match=r"has planet.*has boat, cat.*--proposals"):
        run(pipeline, truth, "detections")


def test_masks_have_a_time_of_their_own(perfect: Precomputed, truth: GroundTruth) -> None:
    class Slow(Precomputed):
        def propose(self, image: Path, /) -> Found:
            time.sleep(0.2)
            return super().propose(image)

    cost = predict(Slow(perfect.answers), truth, task="proposals", take=lambda *_: None)
    assert (cost.seconds >= 0.2).all()
    assert (cost.mask_seconds < cost.seconds).all()
    assert cost.counts.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("size", "remedy"),
    [((80, 60), "the two are swapped"), ((60, 81), "annotate the image that is")],
)
def test_an_image_of_another_size_than_annotated_is_an_error(
    size: tuple[int, int], remedy: str, truth: GroundTruth
) -> None:
    answer = replace(found(labels=()), masks=Masks([{"size": list(size), "counts": b""}]))
    answer = replace(answer, boxes=np.zeros((1, 4), np.float32), scores=np.ones(1, np.float32))
    message = (
        f"image 1 is annotated as 80x60 pixels, its file has {size[1]}x{size[0]}: .*: {remedy}"
    )
    with pytest.raises(DataError, match=message):
        predict(Precomputed({"1.jpg": answer}), truth, task="proposals", take=lambda *_: None)


def test_the_json_is_complete_and_strict(perfect: Precomputed, truth: GroundTruth) -> None:
    text = json.dumps(run(perfect, truth, "proposals").to_json(), allow_nan=False)
    content = json.loads(text)
    assert content["figures"]["mask AR@100"]["value"] == pytest.approx(1.0)
    assert content["figures"]["mask AR@100, large"] == {"value": None, "low": None, "high": None}
    assert content["dataset"]["images"] == 2
    assert content["interval"]["unit"] == "object"
    assert content["cost"]["seconds_per_image"]["median"] > 0
    assert content["cost"]["results_per_image"] == {"mean": 1.5, "most": 2}
    assert (content["subject"], content["backend"]) == ("perfect", "torch")
    assert content["proposals_per_image"] == 100


def test_the_table_shows_figures_and_cost(perfect: Precomputed, truth: GroundTruth) -> None:
    console = Console(width=120, record=True, quiet=False)
    with console.capture() as capture:
        console.print(run(perfect, truth, "detections").table())
    shown = capture.get()
    for part in ("perfect by torch", "mask AP50", "1.000", "results per image, mean", "1.5"):
        assert part in shown
    for part in ("seconds per image", "peak memory", "3 objects"):
        assert part in shown


def test_the_table_states_how_many_proposals_counted(
    perfect: Precomputed, truth: GroundTruth
) -> None:
    console = Console(width=120, record=True)
    with console.capture() as capture:
        console.print(run(perfect, truth, "proposals").table())
    assert "2 images, at most 100 proposals each, 3 objects" in capture.get()


def test_peak_memory_sees_what_was_held_and_let_go() -> None:
    code = """
import numpy as np
from foveate.evaluation.predict import peak_memory, reset_peak_memory
large = np.ones(800_000_000, np.uint8)
del large
reset_peak_memory()
before = peak_memory()
held = np.ones(500_000_000, np.uint8)
del held
print(before, peak_memory())
"""
    # In a process of its own: the kernel may reclaim memory of one that ran many tests meanwhile.
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    before, after = map(int, run.stdout.split())
    assert before < 800_000_000
    assert after - before > 300_000_000
