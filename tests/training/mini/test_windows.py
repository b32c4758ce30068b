# SPDX-License-Identifier: Apache-2.0
"""What DeepMask's training step of `mini` learns from: windows of cached features."""

from __future__ import annotations

import numpy as np
import torch

from foveate.models.efficientnet_lite import CHANNELS
from foveate.models.networks import sharpmask_mini
from foveate.models.trunk import EFFICIENTNET_LITE
from foveate.training.mini.trunk import MEAN, STD
from foveate.training.mini.window_steps import _draw_scored, window_vectors


def test_two_objects_and_eight_others_are_scored_of_a_view() -> None:
    scores = np.random.default_rng(0).choice([-1, 0, 1], (3, 11, 11)).astype(np.int8)
    scores[2] = -1
    scores[2, 4, 7] = 1
    owners, cells, labels = _draw_scored(scores, np.random.default_rng(1))
    assert np.bincount(owners).tolist() == [10, 10, 1]
    assert [(labels[owners == view] == 1).sum() for view in range(3)] == [2, 2, 1]
    assert (scores[owners, cells[:, 0], cells[:, 1]] == labels).all()
    assert len({(owner, *cell) for owner, cell in zip(owners, cells.tolist(), strict=True)}) == 21


def test_the_vector_of_a_single_window_is_the_one_of_the_dense_network() -> None:
    torch.manual_seed(0)
    network = sharpmask_mini().deepmask
    coarse = np.random.default_rng(0).normal(size=(2, CHANNELS[16], 20, 20)).astype(np.float16)
    with torch.inference_mode():
        dense = network.vectors(torch.from_numpy(coarse.astype(np.float32)))
        found = window_vectors(network, coarse, np.array([1, 0]), np.array([[3, 7], [10, 2]]))
    torch.testing.assert_close(found, torch.stack([dense[1, :, 3, 7], dense[0, :, 10, 2]]))


def test_the_trunk_of_the_training_normalizes_as_the_networks_do() -> None:
    assert (EFFICIENTNET_LITE.mean, EFFICIENTNET_LITE.std) == ((MEAN,) * 3, (STD,) * 3)
