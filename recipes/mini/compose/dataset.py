# SPDX-License-Identifier: Apache-2.0
"""A data set on disk: COCO annotations, and JPEG images as they are drawn."""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from compose.scene import Placed, Scene
from foveate.errors import DataError, OptionError
from foveate.system.files import new_folder

_QUALITY = 95
_Progress = Callable[[int, int], None]


class Scenes(Protocol):
    """The images of a data set, each drawn when it is needed; worker processes get a copy."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of category ids, which start at 1."""

    @property
    def info(self) -> dict[str, Any]:
        """What determines the images, for the annotations."""

    def scene(self, index: int) -> Scene:
        """Draw an image; the same index gives the same bits."""


def write_dataset(
    output: Path,
    scenes: Scenes,
    *,
    images: int,
    workers: int = 2,
    progress: _Progress | None = None,
) -> None:
    """Compose `output/annotations.json` and `output/images/*.jpg`.

    The bytes do not depend on the number of workers. Everything is written to a
    temporary directory and renamed, so that an interrupted run leaves nothing.

    Args:
        output: A directory that does not exist yet.
        scenes: Images to write.
        images: Number of images.
        workers: Processes; 0 composes in this one.
        progress: Called after each image with the number of finished ones and of all.

    Raises:
        DataError: The output exists, or an image cannot be composed.
        OptionError: A number is out of range.
    """
    if images < 1 or workers < 0:
        raise OptionError(
            "expected at least 1 image and no negative number of workers, found "
            f"{images} images, {workers} workers"
        )
    check_new(output)
    with new_folder(output, overwrite=False) as folder:
        (folder / "images").mkdir()
        task = partial(_write_image, folder)
        records: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        with _mapper(scenes, workers) as mapping:
            for done, (record, objects) in enumerate(mapping(task, range(images)), start=1):
                records.append(record)
                for item in objects:
                    annotations.append({**item, "id": len(annotations) + 1})
                if progress is not None:
                    progress(done, images)
        content = {
            "info": {"description": "composed by the recipe of mini", **scenes.info},
            "categories": categories(scenes.class_names),
            "images": records,
            "annotations": annotations,
        }
        text = json.dumps(content, separators=(",", ":"))
        (folder / "annotations.json").write_text(text, encoding="utf-8")


def check_new(output: Path) -> None:
    """Check that an output does not exist yet."""
    if output.exists():
        raise DataError("the output exists", file=output, remedy="delete it or name another one")


def categories(class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return COCO's entries for classes, with ids from 1."""
    return [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)]


_Result = tuple[dict[str, Any], list[dict[str, Any]]]
_scenes: Scenes | None = None  # of a worker process


@contextmanager
def _mapper(scenes: Scenes, workers: int) -> Iterator[Callable[..., Iterator[_Result]]]:
    """Return a function like `map`, in order, that runs in worker processes."""
    if workers == 0:
        _start_worker(scenes, None)
        yield map
        return
    # Not forked: OpenCV's and the progress bar's threads would leave locks behind that never open.
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _start_worker, (scenes, 1)) as pool:
        yield partial(pool.imap, chunksize=4)


def _start_worker(scenes: Scenes, threads: int | None) -> None:
    global _scenes  # noqa: PLW0603 - a process pool hands over state in no other way
    _scenes = scenes
    if threads is not None:
        cv2.setNumThreads(threads)
        # Ctrl-C reaches every process; the parent ends the workers, without a traceback each.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_image(folder: Path, index: int) -> _Result:
    if _scenes is None:
        raise RuntimeError("a worker was given an image before its scenes")
    scene = _scenes.scene(index)
    name = f"{index:06d}.jpg"
    image = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    (folder / "images" / name).write_bytes(content.tobytes())
    return annotate(scene, image_id=index + 1, file_name=name)


def annotate(scene: Scene, *, image_id: int, file_name: str) -> _Result:
    """Return COCO's entries for an image: its `images` item, and its `annotations` without ids.

    Masks are run-length encoded; boxes are (x, y, width, height), tight about the mask.
    """
    height, width = scene.image.shape[:2]
    record = {
        "id": image_id,
        "file_name": file_name,
        "width": width,
        "height": height,
        "background": scene.background.path,
    }
    return record, [_annotation(placed, image_id) for placed in scene.objects]


def _annotation(placed: Placed, image_id: int) -> dict[str, Any]:
    entry = placed.entry
    return {
        "image_id": image_id,
        "category_id": placed.category_id,
        **mask_fields(placed.mask),
        "iscrowd": int(placed.crowd),
        "cutout": entry.path,
        "family": entry.family or entry.path,
    }


def mask_fields(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the fields of COCO's annotation that follow from a (H, W) mask."""
    code = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "segmentation": segmentation(code),
        "area": int(coco_mask.area(code)),
        "bbox": [float(number) for number in coco_mask.toBbox(code)],
    }


def segmentation(code: dict[str, Any]) -> dict[str, Any]:
    """Return a run-length code in the form of JSON."""
    return {"size": list(code["size"]), "counts": code["counts"].decode("ascii")}
