# SPDX-License-Identifier: Apache-2.0
"""The memory of a slot is known before any is allocated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import foveate
from foveate.runtime.devices import CpuBuffer, CpuDevice
from foveate.runtime.loading import open_engines
from foveate.runtime.pipeline import Pipeline
from foveate.runtime.prediction import slot_bytes
from foveate.runtime.setup import Setup
from foveate.runtime.sizes import Sizes


class Summing(CpuDevice):
    """The CPU, which adds up what it allocates, as a GPU aligns it, but for mapped memory."""

    total = 0

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> CpuBuffer:
        self.total += -(-prod(shape) * dtype.itemsize // 256) * 256
        return super().allocate(shape, dtype)

    def mapped(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return CpuDevice().mapped(shape, dtype)


def test_a_slot_takes_what_was_predicted_and_the_scratch_of_its_launches(
    contrast_bundle: Path,
) -> None:
    bundle, device = foveate.Bundle.open(contrast_bundle), Summing()
    engines, manifest = open_engines(bundle, device, "auto", 1), bundle.manifest
    setup = Setup(device=device, engines=engines, manifest=manifest, score_threshold=0.25)
    sizes = Sizes.of(90, 130, manifest)
    predicted = slot_bytes(setup, sizes)
    assert device.total == 0
    with Pipeline(bundle, engines, device=device) as pipeline:
        pipeline(np.zeros((90, 130, 3), np.uint8))
    scratch = predicted - device.total
    assert 0 < scratch < 4 << 20


class Needing:
    """An engine whose runs take memory of a device.

    Args:
        engine: The engine.
        need: Number of bytes of a run by the number of pixels of its image.
    """

    def __init__(self, engine: Any, need: Callable[[int], int]) -> None:
        self._engine, self._need = engine, need

    def bind_bytes(self, bindings: Mapping[str, Any]) -> int:
        return self._need(prod(bindings["image"].shape[2:]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def test_runs_on_one_stream_share_the_largest_memory_and_keep_what_was_too_small(
    contrast_bundle: Path,
) -> None:
    bundle = foveate.Bundle.open(contrast_bundle)
    engines = open_engines(bundle, CpuDevice(), "auto", 1)
    setup = Setup(
        device=CpuDevice(), engines=engines, manifest=bundle.manifest, score_threshold=0.25
    )
    sizes = Sizes.of(90, 130, bundle.manifest)
    areas = [level.canvas_height * level.canvas_width for level in sizes.levels]
    assert len(set(areas)) > 2

    def predicted(need: Callable[[int], int]) -> int:
        needing: Any = Needing(engines["propose"], need)
        return slot_bytes(replace(setup, engines={**engines, "propose": needing}), sizes)

    nothing = predicted(lambda _: 0)
    assert predicted(lambda area: area) - nothing == max(areas)
    # The levels are bound from the largest to the smallest, whose runs take the most here.
    growing = {max(areas) + 1 - area for area in areas}
    assert predicted(lambda area: max(areas) + 1 - area) - nothing == sum(growing)
    for engine in engines.values():
        engine.close()
