# SPDX-License-Identifier: Apache-2.0
"""Turn the scenes that `render.py` rendered into a COCO-format data set of one class, `thing`.

    python recipes/mini/rooms.py SCENES BACKDROPS TEXTURES DIRECTORY

SCENES is the directory that `render.py` filled; BACKDROPS a text file with one path per line,
for what lies behind the outdoor scenes, TEXTURES one of images that objects are painted with.
Every scene becomes `VARIANTS` images of DIRECTORY/train that differ in paint, backdrop, mirroring,
light, blur, noise and compression; every twentieth scene one image of DIRECTORY/validation. Both
splits show the same models, in other scenes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from compose.dataset import mask_fields
from compose.options import training_options
from compose.photometric import finish

VARIANTS = 5
HELD_OUT = 20
SEED = 3
# Share of the objects of training images that are painted.
# The models are plainer than things in photographs, and from plain ones a network learns that an
# object has one color.
PAINTED = 0.3

# Pixels of a photograph that is cut from: a part of a half to all of it fills a scene.
LARGEST_SIDE = 1200

# Visible pixels of an object that is annotated.
SMALLEST_AREA = 120


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The images that a scene is finished with."""

    backdrops: list[Path]
    textures: list[Path]


def main() -> None:
    """Write both splits: `annotations.json` and `images/` each."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("scenes", type=Path)
    parser.add_argument("backdrops", type=Path)
    parser.add_argument("textures", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    surroundings = Surroundings(
        backdrops=[Path(line) for line in arguments.backdrops.read_text().splitlines()],
        textures=[Path(line) for line in arguments.textures.read_text().splitlines()],
    )
    scenes = sorted(arguments.scenes.glob("?????.png"))
    held_out = [scene for scene in scenes if int(scene.stem) % HELD_OUT == 0]
    kept = [scene for scene in scenes if int(scene.stem) % HELD_OUT]
    _write(arguments.folder / "validation", held_out, 1, 0.0, surroundings)
    _write(arguments.folder / "train", kept, VARIANTS, PAINTED, surroundings)


def _write(
    folder: Path, scenes: list[Path], variants: int, painted: float, surroundings: Surroundings
) -> None:
    (folder / "images").mkdir(parents=True)
    content: dict[str, Any] = {
        "categories": [{"id": 1, "name": "thing"}],
        "images": [],
        "annotations": [],
    }
    for scene in scenes:
        rendered = _read(scene).astype(np.uint8)
        owners = _read(scene.with_name(f"{scene.stem}_index_0001.png"))
        objects = [mask for n in np.unique(owners[owners > 0]) if _is_seen(mask := owners == n)]
        for variant in range(variants if objects else 0):
            rng = np.random.default_rng([SEED, int(scene.stem), variant])
            image, masks = _vary(rendered, objects, painted, surroundings, rng)
            name = f"{scene.stem}_{variant}.jpg"
            _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
            (folder / "images" / name).write_bytes(jpeg.tobytes())
            _annotate(content, name, masks)
    (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")
    print(f"{folder}: {len(content['images'])} images, {len(content['annotations'])} objects")


def _read(file: Path) -> NDArray[Any]:
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    assert image is not None, file
    return image


def _is_seen(mask: NDArray[np.bool_]) -> bool:
    return int(mask.sum()) >= SMALLEST_AREA


def _vary(
    rendered: NDArray[np.uint8],
    masks: list[NDArray[np.bool_]],
    painted: float,
    surroundings: Surroundings,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """Return a variant, (H, W, 3) uint8 BGR, and its masks."""
    image = rendered[..., :3].astype(np.float32)
    alpha = rendered[..., 3:].astype(np.float32) / 255
    if alpha.min() < 1:
        behind = _crop(_one_of(surroundings.backdrops, rng), image.shape[:2], rng)
        image = np.asarray(alpha * image + (1 - alpha) * behind, np.float32)
    for mask in masks:
        if rng.random() < painted:
            image = _paint(image, mask, _one_of(surroundings.textures, rng), rng)
    if rng.random() < 0.5:
        image = image[:, ::-1]
        masks = [mask[:, ::-1] for mask in masks]
    finished = finish(np.ascontiguousarray(image[..., ::-1]), training_options().finish, rng)
    return np.ascontiguousarray(finished[..., ::-1]), masks


def _one_of(files: list[Path], rng: np.random.Generator) -> Path:
    return files[int(rng.integers(len(files)))]


def _paint(
    image: NDArray[np.float32], mask: NDArray[np.bool_], file: Path, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Paint an object, or the part on one side of a line, and keep its light and shade."""
    rows, columns = np.nonzero(mask)
    part = mask.astype(np.float32)
    if rng.random() < 0.5:
        angle, some = rng.uniform(0, 2 * np.pi), int(rng.integers(len(rows)))
        y, x = np.indices(mask.shape)
        part *= (x - columns[some]) * np.cos(angle) + (y - rows[some]) * np.sin(angle) > 0
    gray = image.mean(axis=2)
    shade = (gray / max(float(gray[mask].mean()), 1.0)).clip(0.3, 2.0)[..., None]
    paint = np.zeros_like(image)
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    paint[box] = _crop(file, paint[box].shape[:2], rng)
    share = cv2.GaussianBlur(part, (0, 0), 0.5)[..., None] * np.float32(rng.uniform(0.6, 1.0))
    return np.asarray(image + share * (paint * shade - image), np.float32)


def _crop(file: Path, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Cut a random part of a photograph and bring it to (height, width)."""
    photograph = _read_small(file)
    height, width = size
    scale = min(photograph.shape[0] / height, photograph.shape[1] / width) * rng.uniform(0.5, 1)
    rows, columns = (max(8, int(side * scale)) for side in size)
    top = int(rng.integers(photograph.shape[0] - rows + 1))
    left = int(rng.integers(photograph.shape[1] - columns + 1))
    part = photograph[top : top + rows, left : left + columns]
    resized = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    return resized.astype(np.float32)


@lru_cache(maxsize=512)
def _read_small(file: Path) -> NDArray[np.uint8]:
    """Read a photograph, no larger than a scene can show of it."""
    photograph = cv2.imread(str(file), cv2.IMREAD_COLOR)
    assert photograph is not None, file
    scale = min(1.0, LARGEST_SIDE / max(photograph.shape))
    small = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def _annotate(content: dict[str, Any], name: str, masks: list[NDArray[np.bool_]]) -> None:
    height, width = masks[0].shape
    image_id = len(content["images"]) + 1
    content["images"].append({"id": image_id, "file_name": name, "width": width, "height": height})
    for mask in masks:
        number = len(content["annotations"]) + 1
        entry = {"id": number, "image_id": image_id, "category_id": 1, **mask_fields(mask)}
        content["annotations"].append({**entry, "iscrowd": 0})


if __name__ == "__main__":
    main()
