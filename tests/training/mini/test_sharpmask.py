# SPDX-License-Identifier: Apache-2.0
"""What SharpMask's training step of `mini` learns from, on random features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from foveate.cli._train_mini import mini_of
from foveate.models import SharpMask
from foveate.models.deepmask import WINDOW
from foveate.models.efficientnet_lite import CHANNELS
from foveate.models.networks import sharpmask_mini
from foveate.models.sharpmask import SKIP_STRIDES
from foveate.training.mini import window_steps
from foveate.training.mini.window_cache import HALO, WindowCache

WINDOWS = 8


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> WindowCache:
    """Windows of one view each."""
    folder = tmp_path_factory.mktemp("windows")
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArray[np.generic]] = {
        "coarse": rng.normal(size=(WINDOWS, CHANNELS[16], 20, 20)).astype(np.float16),
        "mask_views": np.arange(WINDOWS, dtype=np.int32),
        "mask_cells": rng.integers(0, 11, (WINDOWS, 2)).astype(np.int8),
        "mask_labels": rng.integers(0, 2, (WINDOWS, WINDOW, WINDOW)).astype(np.uint8) * 255,
        "fine_masks": np.arange(WINDOWS, dtype=np.int32),
    }
    for stride in SKIP_STRIDES:
        side = WINDOW // stride + 2 * HALO
        features = rng.normal(size=(WINDOWS, CHANNELS[stride], side, side))
        arrays[f"fine_{stride}"] = features.astype(np.float16)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return WindowCache(folder)


@pytest.fixture
def loss(cache: WindowCache) -> Callable[[], float]:
    """The loss of one and the same batch."""
    torch.manual_seed(0)
    step = window_steps.sharpmask_step(sharpmask_mini().eval(), cache, WINDOWS)

    def of_batch() -> float:
        with torch.inference_mode():
            return step(np.random.default_rng(1))["mask"].item()

    return of_batch


def changes_it(loss: Callable[[], float], cache: WindowCache, stride: int) -> bool:
    """Tell whether the loss depends on the skip features of a stride."""
    before, features = loss(), cache.fine[stride].copy()
    cache.fine[stride][:] = -features
    after = loss()
    cache.fine[stride][:] = features
    return after != before


@pytest.mark.parametrize("stride", SKIP_STRIDES)
def test_every_skip_is_learnt_from(
    loss: Callable[[], float], cache: WindowCache, stride: int
) -> None:
    assert changes_it(loss, cache, stride)


@pytest.mark.parametrize("stride", SKIP_STRIDES)
def test_a_window_whose_skips_are_dropped_does_not_see_them(
    loss: Callable[[], float], cache: WindowCache, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_steps, "SKIPS_DROPPED", 1.0)
    assert not changes_it(loss, cache, stride)


def test_skips_are_dropped_unless_told_otherwise(
    loss: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = loss()
    monkeypatch.setattr(window_steps, "SKIPS_DROPPED", 0.0)
    assert loss() != before


def test_training_starts_from_a_shipped_bundle_by_its_name() -> None:
    assert isinstance(mini_of(Path("mini")).proposals, SharpMask)
