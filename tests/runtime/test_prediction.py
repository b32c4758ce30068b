# SPDX-License-Identifier: Apache-2.0
"""The memory of a slot is known before any is allocated."""

from __future__ import annotations

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
