# SPDX-License-Identifier: Apache-2.0
"""Find the objects of a data set on many machines with Ray Data, and write them as Parquet files.

python examples/ray_batch.py images.txt found

The manifest lists images, one per line, or in the column "image" of a CSV or Parquet file. Images
and results are on storage that all machines see. Run it again to continue, also with more images:
each image has one record. found/bad.csv lists those that cannot be read, and is a manifest too.
"""

from __future__ import annotations

import argparse
import hashlib
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from pyarrow import csv, parquet

import foveate

ANNOTATION = {
    "name": pa.string(),
    "category_id": pa.int64(),
    "score": pa.float64(),
    "bbox": pa.list_(pa.float64()),
    "segmentation": pa.struct({"size": pa.list_(pa.int64()), "counts": pa.string()}),
}
RECORD = pa.schema({"image": pa.string(), "annotations": pa.list_(pa.struct(ANNOTATION))})
BAD = pa.schema({"image": pa.string(), "error": pa.string()})


class Finder:
    """A worker, which loads the pipeline once."""

    def __init__(self, bundle: str, threads: int, folder: Path) -> None:
        self.pipeline = foveate.load(bundle, options=foveate.PipelineOptions(threads=threads))
        self.folder = folder

    def __call__(self, part: dict[str, Any]) -> list[dict[str, str]]:
        """Write the records of a part, and return the images that have none."""
        images, records, bad = [str(image) for image in part["images"]], [], []
        for image in images:
            try:
                found = self.pipeline(image)
            except foveate.InputError as error:
                bad.append({"image": image, "error": str(error)})
                continue
            entries = zip(found.names, found.to_coco(0), strict=True)  # the path is the id here
            annotations = [{"name": name, **entry} for name, entry in entries]
            records.append({"image": image, "annotations": annotations})
        # A part that Ray repeats has the same name, and a file with that name is complete.
        name = hashlib.sha256("\n".join(images).encode()).hexdigest()[:32]
        aside = self.folder / f".{name}.{uuid.uuid4().hex}"
        parquet.write_table(pa.Table.from_pylist(records, RECORD), aside)
        aside.replace(self.folder / f"{name}.parquet")
        return bad


def read_manifest(file: Path) -> list[str]:
    """Return the images of a manifest."""
    if file.suffix not in (".csv", ".parquet"):
        return list(filter(None, file.read_text(encoding="utf-8").splitlines()))
    table = csv.read_csv(file) if file.suffix == ".csv" else parquet.read_table(file)
    return [str(image) for image in table["image"].to_pylist()]


def main() -> None:
    """Distribute the images that have no record, in parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--bundle", default="mini")
    parser.add_argument("--workers", type=int, default=2, help="number of pipelines")
    parser.add_argument("--cpus", type=int, default=1, help="processor cores of each")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each, such as 0.5")
    parser.add_argument("--part", type=int, default=256, help="number of images per file")
    options = parser.parse_args()
    if not options.manifest.is_file():
        parser.error(f"there is no manifest {options.manifest}")

    folder = options.output.resolve() / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*"):  # of workers that were killed
        leftover.unlink()
    missing = dict.fromkeys(read_manifest(options.manifest))  # each image once, in order
    for file in folder.glob("*.parquet"):
        for image in parquet.read_table(file, columns=["image"])["image"].to_pylist():
            missing.pop(image, None)
    images, bad = list(missing), []
    parts = [{"images": images[n : n + options.part]} for n in range(0, len(images), options.part)]
    if parts:
        # One task per part, so that a machine that is lost costs the parts at hand and no more.
        bad = (
            ray.data.from_items(parts, override_num_blocks=len(parts))
            .flat_map(
                Finder,
                fn_constructor_args=(options.bundle, options.cpus, folder),
                compute=ray.data.ActorPoolStrategy(size=options.workers),
                num_cpus=options.cpus,
                num_gpus=options.gpus,
            )
            .take_all()
        )
    csv.write_csv(pa.Table.from_pylist(bad, BAD), options.output / "bad.csv")
    print(f"{len(images) - len(bad)} images done, {len(bad)} bad: {options.output}")


if __name__ == "__main__":
    main()
