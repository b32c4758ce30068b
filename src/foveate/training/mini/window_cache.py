# SPDX-License-Identifier: Apache-2.0
"""Windows with the features of the frozen trunk, computed once and read in every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from foveate.datasets import CocoDataset
from foveate.datasets.splits import no_objects
from foveate.errors import DataError
from foveate.models.deepmask import CELLS, STRIDE, WINDOW
from foveate.models.efficientnet_lite import CHANNELS
from foveate.models.sharpmask import SKIP_STRIDES
from foveate.progress import Progress
from foveate.system.files import new_folder
from foveate.training.mini.trunk import FrozenTrunk
from foveate.training.mini.views import CONTEXT, GRID, LabelRules, View, sample_view, shown_sides
from foveate.training.resume import Origin, is_current, stamp
from foveate.typed_options import TypedOptions

HALO = 2
"""Cells kept around a fine window: the reach of the two 3x3 convolutions of a horizontal half."""

MASKS_PER_VIEW = 2


@dataclass(frozen=True, kw_only=True)
class CacheOptions(TypedOptions):
    """The size of a cache.

    Args:
        views_per_image: Number of views of each image.
        fine_every: Distance of the views that also keep the features that SharpMask reads.
        seed: Seed of all draws.
        rules: Rules of the labels.
    """

    views_per_image: int = 3
    fine_every: int = 2
    seed: int = 0
    rules: LabelRules = field(default_factory=LabelRules)


def require_objects(dataset: CocoDataset, options: CacheOptions) -> None:
    """Check that there is an object that `mini` can learn from.

    Raises:
        DataError: All objects are crowds, too small or too large; the text has their numbers.
    """
    table = dataset.annotations
    least, most = shown_sides(options.rules)
    sides = table.boxes[:, 2:].max(axis=1, initial=0.0)
    small, large = ~table.crowds & (sides < least), ~table.crowds & (sides > most)
    if (table.crowds | small | large).all():
        reasons = {
            "are crowds": int(table.crowds.sum()),
            f"are smaller than {least:.0f} pixels": int(small.sum()),
            f"are larger than {most:.0f} pixels": int(large.sum()),
        }
        raise no_objects(dataset, reasons)


class WindowCache:
    """Arrays of finished caches, joined, each read into memory when it is first used.

    Windows are drawn at random, so a mapped file would be read page by page, slower than they are
    trained on.

    Args:
        directories: Folders of the caches, at least one.
    """

    def __init__(self, *directories: Path):
        self._directories = directories

    @cached_property
    def coarse(self) -> NDArray[np.float16]:
        """(V, C, 20, 20) stride-16 features under the inner windows of each view."""
        return self._read("coarse")

    @cached_property
    def scores(self) -> NDArray[np.int8]:
        """(V, 11, 11) labels as in `View`."""
        return self._read("scores")

    @cached_property
    def mask_views(self) -> NDArray[np.int32]:
        """(M,) index of the view of each labeled mask."""
        return self._read_index("mask_views", of="coarse")

    @cached_property
    def mask_cells(self) -> NDArray[np.int8]:
        """(M, 2) row and column of its window among the inner ones."""
        return self._read("mask_cells")

    @cached_property
    def mask_labels(self) -> NDArray[np.uint8]:
        """(M, 160, 160), 255 on the object."""
        return self._read("mask_labels")

    @cached_property
    def fine_masks(self) -> NDArray[np.int32]:
        """(F,) index into the mask arrays for each fine window."""
        return self._read_index("fine_masks", of="mask_cells")

    @cached_property
    def fine(self) -> dict[int, NDArray[np.float16]]:
        """(F, C, S + 4, S + 4) features by stride, under the window and `HALO` cells around it."""
        return {stride: self._read(f"fine_{stride}") for stride in SKIP_STRIDES}

    def _read(self, name: str) -> NDArray[Any]:
        """Read an array of every cache into one; it is never in memory twice."""
        mapped = [np.load(path / f"{name}.npy", mmap_mode="r") for path in self._directories]
        length = sum(len(array) for array in mapped)
        joined: NDArray[Any] = np.empty((length, *mapped[0].shape[1:]), mapped[0].dtype)
        return np.concatenate(mapped, out=joined)

    def _read_index(self, name: str, *, of: str) -> NDArray[np.int32]:
        """Read indices into another array, offset by its lengths in the caches before."""
        parts, first = [], 0
        for path in self._directories:
            parts.append(np.load(path / f"{name}.npy") + np.int32(first))
            first += len(np.load(path / f"{of}.npy", mmap_mode="r"))
        return np.concatenate(parts)


def small_labels(labels: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Shrink (K, 160, 160) uint8 labels to (K, side, side) shares in [0, 1], by area."""
    shrunk = [cv2.resize(label, (side, side), interpolation=cv2.INTER_AREA) for label in labels]
    shares: NDArray[np.float32] = np.stack(shrunk).astype(np.float32) / np.float32(255)
    return shares


def build_cache(
    dataset: CocoDataset,
    trunk: FrozenTrunk,
    directory: Path,
    options: CacheOptions,
    progress: Progress,
) -> WindowCache:
    """Fill a cache, or open the one that was filled from the same data.

    Args:
        dataset: Training images.
        trunk: Trunk that computes the features.
        directory: Folder of the cache; it appears in one step.
        options: Size of the cache, and the seed.
        progress: Called with the number of finished images.
    """
    inputs = {"the annotations or images": dataset.digest, "the windows": asdict(options)}
    origin = Origin(inputs={**inputs, "the trunk": trunk.digest})
    if is_current(directory, origin):
        return WindowCache(directory)
    with new_folder(directory, overwrite=True) as aside:
        writer = _Writer(aside, len(dataset) * options.views_per_image, options.fine_every)
        for done, views in enumerate(_drawn(dataset, options), start=1):
            for view, rng in views:
                writer.add(view, trunk(view.pixels), rng)
            progress("windows", done, len(dataset))
        writer.close()
    stamp(directory, origin)
    return WindowCache(directory)


def build_caches(
    datasets: Sequence[CocoDataset],
    trunk: FrozenTrunk,
    output: Path,
    options: CacheOptions,
    progress: Progress,
) -> WindowCache:
    """Fill a cache for each of several data sets, in folders of `output`, and join them.

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
        views = []
        for view in range(options.views_per_image):
            rng = np.random.default_rng([options.seed, index, view])
            views.append((sample_view(image, instances, rng, options.rules), rng))
        return views

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(draw, 0)
        for index in range(len(dataset)):
            current, ahead = ahead, pool.submit(draw, min(index + 1, len(dataset) - 1))
            yield current.result()


class _Writer:
    def __init__(self, directory: Path, views: int, fine_every: int):
        self._directory = directory
        self._fine_every = fine_every
        self._views = self._masks = self._fines = 0
        side = GRID + CELLS - 1
        masks, fines = views * MASKS_PER_VIEW, -(-views // fine_every)
        self._arrays = {
            "coarse": self._new("coarse", (views, CHANNELS[STRIDE], side, side), np.float16),
            "scores": self._new("scores", (views, GRID, GRID), np.int8),
            "mask_views": self._new("mask_views", (masks,), np.int32),
            "mask_cells": self._new("mask_cells", (masks, 2), np.int8),
            "mask_labels": self._new("mask_labels", (masks, WINDOW, WINDOW), np.uint8),
            "fine_masks": self._new("fine_masks", (fines,), np.int32),
        }
        for stride in SKIP_STRIDES:
            cells = WINDOW // stride + 2 * HALO
            shape = (fines, CHANNELS[stride], cells, cells)
            self._arrays[f"fine_{stride}"] = self._new(f"fine_{stride}", shape, np.float16)

    def _new(self, name: str, shape: tuple[int, ...], dtype: type) -> NDArray[np.generic]:
        # Sparse files: pages that are never written take no disk.
        path = self._directory / f"{name}.npy"
        memory: NDArray[np.generic] = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        return memory

    def add(
        self, view: View, features: dict[int, NDArray[np.float32]], rng: np.random.Generator
    ) -> None:
        index, first = self._views, CONTEXT // STRIDE
        side = GRID + CELLS - 1
        inner = slice(first, first + side)
        self._arrays["coarse"][index] = features[STRIDE][:, inner, inner]
        self._arrays["scores"][index] = view.scores
        self._views += 1
        owned = np.argwhere(view.owners >= 0)
        for number, cell in enumerate(rng.permutation(owned)[:MASKS_PER_VIEW]):
            self._add_mask(view, index, cell)
            # The first one is kept in any case: there must be something for SharpMask.
            if number == 0 and (index % self._fine_every == 0 or not self._fines):
                self._add_fine(features, cell)

    def _add_mask(self, view: View, index: int, cell: NDArray[np.int64]) -> None:
        y, x = (CONTEXT + STRIDE * cell).tolist()
        label = view.masks[int(view.owners[tuple(cell)])][y : y + WINDOW, x : x + WINDOW]
        self._arrays["mask_views"][self._masks] = index
        self._arrays["mask_cells"][self._masks] = cell
        self._arrays["mask_labels"][self._masks] = label
        self._masks += 1

    def _add_fine(self, features: dict[int, NDArray[np.float32]], cell: NDArray[np.int64]) -> None:
        self._arrays["fine_masks"][self._fines] = self._masks - 1
        for stride in SKIP_STRIDES:
            y, x = ((CONTEXT + STRIDE * cell) // stride - HALO).tolist()
            side = WINDOW // stride + 2 * HALO
            self._arrays[f"fine_{stride}"][self._fines] = features[stride][
                :, y : y + side, x : x + side
            ]
        self._fines += 1

    def close(self) -> None:
        """Cut off the unused tails, and write the true lengths into the headers."""
        lengths = {"coarse": self._views, "scores": self._views, "fine_masks": self._fines}
        for name, array in self._arrays.items():
            default = self._fines if name.startswith("fine") else self._masks
            length = lengths.get(name, default)
            array.flush()  # type: ignore[attr-defined]  # it is a memory map
            if length < len(array):
                _truncate(self._directory / f"{name}.npy", length)
        self._arrays.clear()


def _truncate(path: Path, length: int) -> None:
    """Shorten the first axis of a .npy file in place; its padded header has room."""
    with path.open("r+b") as file:
        version = np.lib.format.read_magic(file)
        assert version == (1, 0)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
        file.seek(0)
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": fortran,
            "shape": (length, *shape[1:]),
        }
        np.lib.format.write_array_header_1_0(file, header)
        assert file.tell() == start
        file.truncate(start + length * int(np.prod(shape[1:])) * dtype.itemsize)
