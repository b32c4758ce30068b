# SPDX-License-Identifier: Apache-2.0
"""Filling a window cache: views are drawn, the frozen trunk run on them, windows cut out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from foveate.datasets import CocoDataset
from foveate.models.deepmask import CELLS, STRIDE, WINDOW
from foveate.models.efficientnet_lite import CHANNELS
from foveate.models.sharpmask import SKIP_STRIDES
from foveate.system.files import new_folder
from foveate.training.mini.frozen_trunk import FrozenTrunk
from foveate.training.mini.views import CONTEXT, GRID, View, sample_view
from foveate.training.mini.window_cache import HALO, MASKS_PER_VIEW, CacheOptions, WindowCache
from foveate.training.origin import Origin, is_current, stamp


def build_cache(
    dataset: CocoDataset,
    trunk: FrozenTrunk,
    directory: Path,
    options: CacheOptions,
    progress: Callable[[int, int], None],
) -> WindowCache:
    """Fill a cache, or open the one that was filled from the same.

    Args:
        dataset: the training images.
        trunk: computes the features.
        directory: where the cache is to stand; it appears in one step.
        options: how much, and the seed.
        progress: called with images done and their number.
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
            progress(done, len(dataset))
        writer.close()
    stamp(directory, origin)
    return WindowCache(directory)


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
        """Write the arrays' true lengths into their headers' place: cut the unused tail off."""
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
