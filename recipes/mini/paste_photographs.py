# SPDX-License-Identifier: Apache-2.0
"""Make a data set for `mini` of photographs: objects of some are pasted on others.

    python recipes/mini/paste_photographs.py FOLDER --output DIRECTORY

FOLDER is a data set in COCO's layout, with COCO's supercategories: for example
`annotations/instances_train2017.json` and `train2017/`, and the same of `val2017`. DIRECTORY then
holds

    train/         variants of the training photographs, on most of which objects are pasted
    validation/    the validation photographs, if there are some, unchanged except for their classes

The classes are COCO's supercategories and `plant`. Photographs without annotations are not varied.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from compose import PasteOptions, Photographs, Relabeled, write_dataset
from compose.dataset import check_new
from foveate.cli._console import print_line, show_progress
from foveate.datasets import CocoDataset, find_parts
from foveate.datasets.splits import without_broken_images
from foveate.errors import DataError, FoveateError
from foveate.system.files import check_writable, new_folder

SEED = 3
VARIANTS = 12


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Both parts of a data set of photographs, as they are written.

    Args:
        train: Photographs whose variants are trained on.
        validation: Other photographs; None if the data set has none.
    """

    train: Photographs
    validation: Relabeled | None

    @classmethod
    def open(cls, folder: Path, seed: int) -> Parts:
        """Open a data set; broken images are left out, counted and named.

        Raises:
            DataError: It is in none of the known layouts, cannot be read, has no object to train
                with, or has a category that has none of COCO's supercategories.
        """
        parts = find_parts(folder)
        source = parts.get("train") or parts.get("")
        if source is None:
            raise DataError(
                f"the data set has no part to train with, only {', '.join(parts)}",
                file=folder,
                remedy="add the training photographs",
            )
        train = Photographs.of(CocoDataset(source), options=PasteOptions(), seed=seed)
        validation = Relabeled.of(CocoDataset(parts["val"])) if "val" in parts else None
        # Decoded only now, since that takes the longest.
        train = Photographs.of(
            _usable(train.dataset, "training"), options=PasteOptions(), seed=seed
        )
        if validation is not None:
            dataset = _usable(validation.dataset, "validation")
            validation = replace(validation, dataset=dataset)
        return cls(train=train, validation=validation)

    def write(self, output: Path, images: int | None = None, workers: int = 2) -> None:
        """Write both parts to a directory that does not exist yet; an error leaves nothing.

        Args:
            output: The directory.
            images: Number of variants; by default `VARIANTS` of each training photograph.
            workers: Processes; 0 starts none.
        """
        count = images or VARIANTS * len(self.train.dataset)
        with new_folder(output, overwrite=False) as folder, show_progress() as progress:
            if self.validation is not None:
                self.validation.write(folder / "validation")
            write_dataset(
                folder / "train",
                self.train,
                images=count,
                workers=workers,
                progress=partial(progress, "Pasting"),
            )
        print_line(f"{output}: {count} images to train with, of {len(self.train.dataset)}")


def _usable(dataset: CocoDataset, part: str) -> CocoDataset:
    with show_progress() as progress:
        return without_broken_images(dataset, f"{part} photographs", progress)


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, got {value}")
        return value

    return number


def main() -> None:
    """Check everything, and then paste."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--images", type=_at_least(1), help=f"for training; by default {VARIANTS} per photograph"
    )
    parser.add_argument("--seed", type=_at_least(0), default=SEED, help=f"of every draw ({SEED})")
    parser.add_argument("--workers", type=_at_least(0), default=2, help="processes (2)")
    arguments = parser.parse_args()
    try:
        check_new(arguments.output)
        check_writable(arguments.output)
        parts = Parts.open(arguments.folder, arguments.seed)
        parts.write(arguments.output, arguments.images, arguments.workers)
    except FoveateError as error:
        sys.exit(f"paste_photographs.py: {error}")


if __name__ == "__main__":
    main()
