# SPDX-License-Identifier: Apache-2.0
"""Batches and losses of SharpMask: the refinement of a frozen DeepMask, from cached features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.models.deepmask import DeepMask
from foveate.models.losses import mask_loss
from foveate.models.sharpmask import SKIP_STRIDES, SharpMask
from foveate.training.loop import Losses, Step, distinct
from foveate.training.mini.deepmask import window_vectors
from foveate.training.mini.window_cache import HALO, WindowCache

SKIPS_DROPPED = 0.2
"""Share of the skip features that a window has to do without in training, stride by stride.

Edges and colours alone tell where the objects of composed and rendered images end; in photographs
they mislead. What a coarser module knows must not depend on them.
"""


def sharpmask_step(network: SharpMask, cache: WindowCache, windows: int = 32) -> Step:
    """Make the step for `training.loop.run`; freezes the network's DeepMask.

    The network becomes channel-last: its few channels are three times as fast so.

    Args:
        network: SharpMask, its DeepMask trained.
        cache: its training windows.
        windows: windows in a batch; at most as many as the cache has.
    """
    network.deepmask.requires_grad_(False)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types no layout here
    vectors = _all_vectors(network.deepmask, cache)

    def step(rng: np.random.Generator) -> Losses:
        chosen = distinct(rng, len(cache.fine_masks), windows)
        horizontals = []
        for module, stride in zip(network.coarse_to_fine, SKIP_STRIDES, strict=True):
            patch = torch.from_numpy(cache.fine[stride][chosen].astype(np.float32))
            patch = patch.to(memory_format=torch.channels_last)
            # The halo feeds both convolutions with true neighbours; what their own padding
            # touched is cut off again.
            skip = module.horizontal(patch)[:, :, HALO:-HALO, HALO:-HALO]
            kept = rng.random((len(chosen), 1, 1, 1)) >= SKIPS_DROPPED
            horizontals.append(skip * torch.from_numpy(kept))
        logits = network.refine(vectors[chosen], horizontals)
        labels = cache.mask_labels[cache.fine_masks[chosen]].astype(np.float32) / 255
        return {"mask": mask_loss(logits.float(), torch.from_numpy(labels))}

    return step


def _all_vectors(network: DeepMask, cache: WindowCache, batch: int = 64) -> Tensor:
    masks: NDArray[np.int32] = np.asarray(cache.fine_masks)
    vectors = []
    with torch.inference_mode():
        for first in range(0, len(masks), batch):
            chosen = masks[first : first + batch]
            coarse = cache.coarse[cache.mask_views[chosen]]
            cells = cache.mask_cells[chosen]
            vectors.append(window_vectors(network, coarse, np.arange(len(chosen)), cells))
    return torch.cat(vectors).clone()
