# SPDX-License-Identifier: Apache-2.0
"""Windows with the features of the frozen trunk, computed once and read in every epoch."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveate.arrays import Float32Array, Int32Array, Int64Array, UInt8Array
from foveate.datasets import CocoDataset
from foveate.datasets.splits import no_objects
from foveate.errors import DataError
from foveate.models.deepmask import CELLS, STRIDE, WINDOW
from foveate.models.efficientnet_lite import CHANNELS
from foveate.models.sharpmask import SKIP_STRIDES
from foveate.progress import Progress
from foveate.system.executors import submit
from foveate.system.files import new_folder
from foveate.training.mini.trunk import FrozenTrunk
from foveate.training.mini.views import CONTEXT, GRID, LabelRules, View, sample_view, shown_sides
from foveate.training.resume import Origin, is_current, stamp
from foveate.typed_options import TypedOptions

# Cells kept around a fine window: the reach of the two 3x3 convolutions of a horizontal half.
HALO = 2
MASKS_PER_VIEW = 2


@dataclass(frozen=True, kw_only=True)
class CacheOptions(TypedOptions):
    """The size of a cache.

    Args:
        views_per_image: Number of views of each image.
        fine_every: Interval, in views, of those that also keep the features that SharpMask reads.
        seed: Seed of all draws.
        rules: Rules of the labels.
    """

    views_per_image: int = 3
    fine_every: int = 2
    seed: int = 0
    rules: LabelRules = field(default_factory=LabelRules)


def require_objects(dataset: CocoDataset, options: CacheOptions) -> None:
    """Check that there is an object that ``mini`` can learn from.

    Raises:
        DataError: All objects are crowds, too small or too large; the message gives their numbers.
    """
    table = dataset.annotations
    least, most = shown_sides(options.rules)
    sides = table.boxes[:, 2:].max(axis=1, initial=0.0)
    small, large = ~table.crowds & (sides < least), ~table.crowds & (sides > most)
    if (table.crowds | small | large).all():
        reasons = {
            "are crowds": table.crowds,
            f"are smaller than {least:.0f} pixels": small,
            f"are larger than {most:.0f} pixels": large,
        }
        raise no_objects(dataset, reasons)


class WindowCache:
    """Arrays of finished caches, joined, each read into memory when it is first used.

    Args:
        directories: Directories of the caches, at least one.
    """

    def __init__(self, *directories: Path):
        self._directories = directories

    @cached_property
    def coarse(self) -> NDArray[np.float16]:
        """(V, C, 20, 20) stride-16 features under the inner windows of each view."""
        return self._read("coarse")

    @cached_property
    def scores(self) -> NDArray[np.int8]:
        """(V, 11, 11) labels as in ``View``."""
        return self._read("scores")

    @cached_property
    def mask_views(self) -> Int32Array:
        """(M,) index of the view of each labeled mask."""
        return self._read_index("mask_views", of="coarse")

    @cached_property
    def mask_cells(self) -> NDArray[np.int8]:
        """(M, 2) row and column of its window among the inner ones."""
        return self._read("mask_cells")

    @cached_property
    def mask_labels(self) -> UInt8Array:
        """(M, 160, 160), 255 on the object."""
        return self._read("mask_labels")

    @cached_property
    def fine_masks(self) -> Int32Array:
        """(F,) index into the mask arrays for each fine window."""
        return self._read_index("fine_masks", of="mask_cells")

    @cached_property
    def fine(self) -> dict[int, NDArray[np.float16]]:
        """(F, C, S + 4, S + 4) features by stride, under the window and ``HALO`` cells beyond."""
        return {stride: self._read(f"fine_{stride}") for stride in SKIP_STRIDES}

    def _read(self, name: str) -> NDArray[Any]:
        """Read an array of every cache into one; it is never in memory twice."""
        # Windows are drawn at random, so that a file that stays mapped would be read page by page,
        # more slowly than training uses them.
        mapped = [np.load(path / f"{name}.npy", mmap_mode="r") for path in self._directories]
        length = sum(len(array) for array in mapped)
        joined: NDArray[Any] = np.empty((length, *mapped[0].shape[1:]), mapped[0].dtype)
        return np.concatenate(mapped, out=joined)

    def _read_index(self, name: str, *, of: str) -> Int32Array:
        """Read indices into another array, offset by its lengths in the preceding caches."""
        parts, first = [], 0
        for path in self._directories:
            parts.append(np.load(path / f"{name}.npy") + np.int32(first))
            first += len(np.load(path / f"{of}.npy", mmap_mode="r"))
        return np.concatenate(parts)


def small_labels(labels: UInt8Array, side: int) -> Float32Array:
    """Shrink (K, 160, 160) uint8 labels to (K, side, side) shares in [0, 1], by area."""
    shrunk = [cv2.resize(label, (side, side), interpolation=cv2.INTER_AREA) for label in labels]
    shares: Float32Array = np.stack(shrunk).astype(np.float32) / np.float32(255)
    return shares


def build_cache(
    dataset: CocoDataset,
    trunk: FrozenTrunk,
    directory: Path,
    options: CacheOptions,
    progress: Progress,
) -> WindowCache:
    """Fill a cache, or open the one that was filled from the same data.

    The directory appears atomically; ``progress`` is called with the number of finished images.

    Raises:
        ModelError: It was filled from the same data with other options.
    """
    inputs = {"the annotations or images": dataset.digest, "the trunk": trunk.digest}
    origin = Origin(inputs=inputs, options=asdict(options))
    if is_current(directory, origin):
        return WindowCache(directory)
    with (
        new_folder(directory, overwrite=True) as folder,
        contextlib.closing(_Writer(folder, options.fine_every)) as writer,
    ):
        for done, views in enumerate(_drawn(dataset, options), start=1):
            for view, rng in views:
                writer.add(view, trunk(view.pixels), rng)
            progress("windows", done, len(dataset))
    stamp(directory, origin)
    return WindowCache(directory)


def build_caches(
    datasets: Sequence[CocoDataset],
    trunk: FrozenTrunk,
    output: Path,
    options: CacheOptions,
    progress: Progress,
) -> WindowCache:
    """Fill a cache for each of several data sets, in directories of ``output``, and join them.

    Raises:
        DataError: No view shows an object.
    """
    directories = [output / f"windows-{number}" for number in range(len(datasets))]
    for dataset, directory in zip(datasets, directories, strict=True):
        build_cache(dataset, trunk, directory, options, progress)
    windows = WindowCache(*directories)
    if not len(windows.fine_masks):
        raise DataError(
            f"none of {len(windows.scores)} views shows an object in the middle of a window",
            file=datasets[0].file,
            remedy="raise --views, or annotate more objects",
        )
    return windows


def _drawn(
    dataset: CocoDataset, options: CacheOptions
) -> Iterator[list[tuple[View, np.random.Generator]]]:
    """Draw the views of each image, one image ahead of the trunk."""

    def draw(index: int) -> list[tuple[View, np.random.Generator]]:
        image, instances = dataset.image(index), dataset.instances(index)
        if not instances:
            return []
        crowds, views = dataset.crowd_mask(index), []
        for view in range(options.views_per_image):
            rng = np.random.default_rng([options.seed, index, view])
            views.append((sample_view(image, instances, crowds, rng, options.rules), rng))
        return views

    with ThreadPoolExecutor(1) as pool:
        ahead = submit(pool, partial(draw, 0))
        for index in range(len(dataset)):
            current, ahead = ahead, submit(pool, partial(draw, min(index + 1, len(dataset) - 1)))
            yield current.result()


class _Writer:
    """Writer of the arrays of a cache, view by view."""

    def __init__(self, directory: Path, fine_every: int) -> None:
        self._fine_every = fine_every
        side = GRID + CELLS - 1
        rows: dict[str, tuple[tuple[int, ...], type]] = {
            "coarse": ((CHANNELS[STRIDE], side, side), np.float16),
            "scores": ((GRID, GRID), np.int8),
            "mask_views": ((), np.int32),
            "mask_cells": ((2,), np.int8),
            "mask_labels": ((WINDOW, WINDOW), np.uint8),
            "fine_masks": ((), np.int32),
        }
        for stride in SKIP_STRIDES:
            cells = WINDOW // stride + 2 * HALO
            rows[f"fine_{stride}"] = (CHANNELS[stride], cells, cells), np.float16
        self._columns = {
            name: _GrowingArray(directory / f"{name}.npy", shape, dtype)
            for name, (shape, dtype) in rows.items()
        }

    def add(self, view: View, features: dict[int, Float32Array], rng: np.random.Generator) -> None:
        index, first = len(self._columns["scores"]), CONTEXT // STRIDE
        inner = slice(first, first + GRID + CELLS - 1)
        self._columns["coarse"].append(features[STRIDE][:, inner, inner])
        self._columns["scores"].append(view.scores)
        owned = np.argwhere(view.owners >= 0)
        for number, cell in enumerate(rng.permutation(owned)[:MASKS_PER_VIEW]):
            self._add_mask(view, index, cell)
            # The first one is always kept, so that SharpMask has something to learn from.
            fine = index % self._fine_every == 0 or not len(self._columns["fine_masks"])
            if number == 0 and fine:
                self._add_fine(features, cell)

    def _add_mask(self, view: View, index: int, cell: Int64Array) -> None:
        y, x = (CONTEXT + STRIDE * cell).tolist()
        label = view.masks[int(view.owners[tuple(cell)])][y : y + WINDOW, x : x + WINDOW]
        self._columns["mask_views"].append(index)
        self._columns["mask_cells"].append(cell)
        self._columns["mask_labels"].append(label)

    def _add_fine(self, features: dict[int, Float32Array], cell: Int64Array) -> None:
        self._columns["fine_masks"].append(len(self._columns["mask_views"]) - 1)
        for stride in SKIP_STRIDES:
            y, x = ((CONTEXT + STRIDE * cell) // stride - HALO).tolist()
            side = WINDOW // stride + 2 * HALO
            window = features[stride][:, y : y + side, x : x + side]
            self._columns[f"fine_{stride}"].append(window)

    def close(self) -> None:
        for column in self._columns.values():
            column.close()


class _GrowingArray:
    """A .npy file that grows along its first axis."""

    def __init__(self, path: Path, row: tuple[int, ...], dtype: type) -> None:
        self._file = path.open("wb")
        self._row = row
        self._dtype = np.dtype(dtype)
        self._length = 0
        self._write_header()

    def __len__(self) -> int:
        return self._length

    def append(self, row: ArrayLike) -> None:
        self._file.write(np.asarray(row, self._dtype).tobytes())
        self._length += 1

    def close(self) -> None:
        # NumPy pads headers, so that one with the true length fits in the place of the first.
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._length, *self._row),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
