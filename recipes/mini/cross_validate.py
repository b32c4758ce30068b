# SPDX-License-Identifier: Apache-2.0
"""Estimate by cross-validation how accurate `mini` is on photographs that it has not seen.

    python recipes/mini/cross_validate.py COCO --output DIRECTORY -- OPTIONS OF foveate train

COCO is a data set in COCO's layout, of which both parts are used. Its photographs are divided into
folds. For each fold, `mini` is trained on variants of the photographs of all other folds; the rest
of the recipe is given by the options, for example `--dataset data/named --init-from BUNDLE`, whose
weights must not have seen a photograph either. All photographs are then measured together, each
with the weights that were trained without it. The scores of a fold are calibrated as those of
another fold are, so that no score is calibrated on its own photographs.

DIRECTORY then holds a run of each fold and `figures.json`. A finished fold is not trained again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from paste_photographs import SEED, Parts
from pycocotools import mask as coco_mask

import foveate
from compose import PasteOptions, Photographs, Relabeled
from foveate.datasets import CocoDataset, find_parts
from foveate.errors import DataError, FoveateError
from foveate.evaluation import GroundTruth, Report, evaluate
from foveate.export.bundle_export import export_bundle
from foveate.models.checkpoint import load_checkpoint
from foveate.system.files import new_folder

FOLDS = 5
_RIGHT_IOU = 0.5


def join_parts(folder: Path, output: Path) -> CocoDataset:
    """Make one data set of all parts of a data set in COCO's layout; the images become links.

    Raises:
        DataError: It is in another layout, or two images have the same name.
    """
    if not output.exists():
        whole: dict[str, Any] = {"images": [], "annotations": []}
        with new_folder(output, overwrite=False) as aside:
            (aside / "images").mkdir()
            for source in find_parts(folder).values():
                content = source.read()
                whole["categories"] = content["categories"]
                dataset = CocoDataset(source)
                for index, name in enumerate(dataset.annotations.files):
                    link = aside / "images" / name
                    if link.is_symlink():
                        raise DataError(
                            f"both parts have an image {name}",
                            file=folder,
                            remedy="name each image differently, or remove a part",
                        )
                    link.symlink_to(dataset.path(index).resolve())
                for key in ("images", "annotations"):
                    whole[key] += content[key]
            (aside / "annotations.json").write_text(json.dumps(whole), encoding="utf-8")
    return CocoDataset(output)


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Photographs to measure, and the training on all others.

    Args:
        directory: Its data set, `data`, and its run, `run`.
        others: The photographs that are varied to train with.
        held_out: The photographs that are measured.
    """

    directory: Path
    others: CocoDataset
    held_out: CocoDataset

    @classmethod
    def of(cls, whole: CocoDataset, number: int, folds: int, directory: Path) -> Fold:
        """Return one of the folds, into which the photographs are dealt in turn."""
        mine = np.arange(len(whole)) % folds == number
        others, held_out = (whole.of_images(np.flatnonzero(which)) for which in (~mine, mine))
        return cls(directory=directory, others=others, held_out=held_out)

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of the finished training."""
        return self.directory / "run" / "mini.safetensors"

    def train(self, options: Sequence[str]) -> None:
        """Vary the other photographs and train on them, unless this was done."""
        data = self.directory / "data"
        if not data.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            photographs = Photographs.of(self.others, options=PasteOptions(), seed=SEED)
            parts = Parts(train=photographs, validation=Relabeled.of(self.held_out))
            parts.write(data)
        command = [sys.executable, "-m", "foveate", "train", "--dataset", str(data), *options]
        status = subprocess.run([*command, "--output", str(self.directory / "run")], check=False)
        if status.returncode:
            what = f"foveate train ended with status {status.returncode}"
            raise DataError(what, file=data, remedy="see its message above")

    def load(self, calibration: tuple[float, float, float]) -> foveate.Pipeline:
        """Return a pipeline of the trained weights that drops no detection, however low its score."""
        cascade = load_checkpoint(self.checkpoint)
        info = replace(cascade.info, calibration=calibration)
        bundle = export_bundle(
            replace(cascade, info=info), self.directory / "bundle", overwrite=True
        )
        return foveate.load(bundle.root, options=foveate.PipelineOptions(score_threshold=0.0))


class OutOfFold:
    """A pipeline that processes each photograph with the weights that have not seen it.

    Args:
        folds: Folds whose training is finished, at least two.
    """

    def __init__(self, folds: Sequence[Fold]) -> None:
        self._pipelines: dict[str, foveate.Pipeline] = {}
        for fold, other in zip(folds, [*folds[1:], folds[0]], strict=True):
            pipeline = fold.load(load_checkpoint(other.checkpoint).info.calibration)
            self._pipelines |= dict.fromkeys(fold.held_out.annotations.files, pipeline)

    def propose(self, image: Path, /) -> foveate.Proposals:
        """Return the proposals of a photograph."""
        return self._pipelines[image.name].propose(image)

    def __call__(self, image: Path, /) -> foveate.Detections:
        """Return the detections of a photograph."""
        return self._pipelines[image.name](image)


def shown_and_right(pipeline: OutOfFold, dataset: CocoDataset) -> tuple[int, int]:
    """Count the detections above the default threshold, and those that overlap an object.

    Returns:
        The number of detections, and that of those with an IoU of at least one half with an object
        of any class, crowds excepted; each object counts once.
    """
    least = foveate.PipelineOptions().score_threshold
    shown = right = 0
    for index in range(len(dataset)):
        found = pipeline(dataset.path(index))
        found = found[np.flatnonzero(found.scores >= least)]
        shown += len(found)
        objects = [np.asfortranarray(one.mask) for one in dataset.instances(index)]
        if len(found) and objects:
            masks = [coco_mask.encode(one) for one in objects]
            overlaps = np.asarray(coco_mask.iou(found.masks.rle(), masks, [False] * len(masks)))
            for row in overlaps:
                best = int(row.argmax())
                if row[best] >= _RIGHT_IOU:
                    right += 1
                    overlaps[:, best] = 0.0
    return shown, right


def measure(folds: Sequence[Fold], whole: CocoDataset, output: Path) -> dict[str, Any]:
    """Measure the photographs of all given folds together, and print the tables."""
    pipeline = OutOfFold(folds)
    names = {name for fold in folds for name in fold.held_out.annotations.files}
    held_out = whole.of_images(
        np.array([i for i, name in enumerate(whole.annotations.files) if name in names])
    )
    directory = output / f"measured-{len(folds)}"
    if not directory.exists():
        Relabeled.of(held_out).write(directory)
    truth = GroundTruth.open(directory)
    proposals: Report = evaluate(pipeline, truth, task="proposals")
    detections: Report = evaluate(pipeline, truth, task="detections")
    shown, right = shown_and_right(pipeline, CocoDataset(directory))
    return {
        "proposals": proposals.to_json(),
        "detections": detections.to_json(),
        "shown": {
            "threshold": foveate.PipelineOptions().score_threshold,
            "detections": shown,
            "overlap_an_object": right,
        },
    }


def main() -> None:
    """Train each fold, then measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="COCO")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=FOLDS, help=f"number of folds ({FOLDS})")
    parser.add_argument(
        "--only", type=int, nargs="+", help="folds to train and measure, from 0 (all)"
    )
    parser.add_argument("options", nargs="+", help="options of foveate train, after --")
    arguments = parser.parse_args()
    numbers = sorted(set(arguments.only or range(arguments.folds)))
    if len(numbers) < 2 or not 0 <= numbers[0] <= numbers[-1] < arguments.folds:
        parser.error(
            f"expected two or more folds from 0 to {arguments.folds - 1}, got {numbers}: the scores "
            "of a fold are calibrated on another one"
        )
    try:
        whole = join_parts(arguments.folder, arguments.output / "photographs")
        folds = [
            Fold.of(whole, number, arguments.folds, arguments.output / f"fold-{number}")
            for number in numbers
        ]
        for fold in folds:
            fold.train(arguments.options)
        figures = measure(folds, whole, arguments.output)
    except FoveateError as error:
        sys.exit(f"cross_validate.py: {error}")
    text = json.dumps(figures, indent=2)
    (arguments.output / "figures.json").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
