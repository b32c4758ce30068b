# SPDX-License-Identifier: Apache-2.0
"""What DeepMask's training step of `mini` learns from: windows of cached features."""

from __future__ import annotations

import numpy as np
import torch

from foveate.models.efficientnet_lite import CHANNELS
from foveate.models.networks import sharpmask_mini
from foveate.models.trunk import EFFICIENTNET_LITE
from foveate.training.mini.trunk import MEAN, STD
from foveate.training.mini.window_steps import window_vectors


def test_the_vector_of_a_single_window_is_the_one_of_the_dense_network() -> None:
    torch.manual_seed(0)
    network = sharpmask_mini().deepmask
    coarse = np.random.default_rng(0).normal(size=(2, CHANNELS[16], 20, 20)).astype(np.float16)
    features = torch.from_numpy(coarse.astype(np.float32))
    with torch.inference_mode():
        dense = network.vectors(features)
        found = window_vectors(network, features, np.array([1, 0]), np.array([[3, 7], [10, 2]]))
    torch.testing.assert_close(found, torch.stack([dense[1, :, 3, 7], dense[0, :, 10, 2]]))


def test_the_trunk_of_the_training_normalizes_as_the_networks_do() -> None:
    assert (EFFICIENTNET_LITE.mean, EFFICIENTNET_LITE.std) == ((MEAN,) * 3, (STD,) * 3)
