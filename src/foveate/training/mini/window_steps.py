# SPDX-License-Identifier: Apache-2.0
"""Training steps of DeepMask and SharpMask from cached features of windows."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from foveate.arrays import Int64Array
from foveate.models.deepmask import CELLS, DeepMask
from foveate.models.losses import focal_loss, mask_loss
from foveate.models.sharpmask import SKIP_STRIDES, SharpMask
from foveate.training.loop import Losses, Step, distinct
from foveate.training.mini.views import UNLABELED
from foveate.training.mini.window_cache import HALO, WindowCache, small_labels

# Weight of the score loss, at which both losses are about equal.
SCORE_WEIGHT = 4.0

# Share of the channels of the stride-16 features that are dropped in training. The trunk is frozen,
# and few images show the same features again and again.
CHANNELS_DROPPED = 0.2


def deepmask_step(network: DeepMask, cache: WindowCache, views: int = 32, masks: int = 48) -> Step:
    """Return the step of DeepMask for ``train_adamw``: masks and scores jointly.

    ``views`` is the number of views per batch whose windows are all scored, and ``masks`` that of
    windows whose masks are decoded; at most as many as the cache has.
    """

    def step(rng: np.random.Generator) -> Losses:
        chosen = distinct(rng, len(cache.coarse), views)
        scores, _ = network.windows(_dropped(cache.coarse[chosen], rng))
        labels = torch.from_numpy(cache.scores[chosen].astype(np.float32)).flatten()
        known = labels != UNLABELED

        chosen = distinct(rng, len(cache.mask_views), masks)
        coarse, inner = cache.coarse[cache.mask_views[chosen]], cache.mask_cells[chosen]
        vectors = window_vectors(network, _dropped(coarse, rng), np.arange(len(chosen)), inner)
        targets = small_labels(cache.mask_labels[chosen], network.mask_side)
        return {
            "score": SCORE_WEIGHT * focal_loss(scores.float().flatten()[known], labels[known]),
            "mask": mask_loss(network.masks(vectors).float(), torch.from_numpy(targets)),
        }

    return step


def _dropped(coarse: NDArray[np.float16], rng: np.random.Generator) -> Tensor:
    """Drop whole channels of (B, C, H, W) features, and scale the others accordingly."""
    kept = rng.random((*coarse.shape[:2], 1, 1)) >= CHANNELS_DROPPED
    scaled = coarse.astype(np.float32) * (kept / (1 - CHANNELS_DROPPED)).astype(np.float32)
    return torch.from_numpy(scaled)


def window_vectors(
    network: DeepMask, coarse: Tensor, owners: Int64Array, cells: NDArray[np.integer]
) -> Tensor:
    """Compute the (K, vector) vectors of single windows.

    Args:
        network: DeepMask.
        coarse: (B, C, 20, 20) float32 stride-16 features of views.
        owners: (K,) index of the view of each window.
        cells: (K, 2) row and column of each window.
    """
    features = torch.relu(network.neck(coarse))
    side = features.shape[3]
    steps = np.arange(CELLS)
    inside = (steps[:, None] * side + steps[None, :]).ravel()
    first = cells.astype(np.int64) @ np.array([side, 1])
    index = torch.from_numpy(first[:, None] + inside[None, :])
    # Gathered cell by cell: the gradient of `Tensor.unfold` would fill all windows of all views.
    chosen = features.flatten(2).transpose(1, 2)[torch.from_numpy(owners)[:, None], index]
    return functional.linear(
        chosen.transpose(1, 2).flatten(1), network.embed.weight.flatten(1), network.embed.bias
    )


# Share of the skip features that are dropped in training, stride by stride. Edges and colors alone
# show where the objects of composed and rendered images end; in photographs they mislead. The
# predictions of a coarser module must not depend on them.
SKIPS_DROPPED = 0.2


def sharpmask_step(network: SharpMask, cache: WindowCache, windows: int = 32) -> Step:
    """Return the step of SharpMask for ``train_adamw``; its trained DeepMask is frozen in place.

    A batch has ``windows`` windows, or all of the cache if it has fewer.
    """
    network.deepmask.requires_grad_(False)
    # With few channels, this layout is three times as fast.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch's types lack layouts
    vectors = _all_vectors(network.deepmask, cache)

    def step(rng: np.random.Generator) -> Losses:
        chosen = distinct(rng, len(cache.fine_masks), windows)
        horizontals = []
        for module, stride in zip(network.coarse_to_fine, SKIP_STRIDES, strict=True):
            patch = torch.from_numpy(cache.fine[stride][chosen].astype(np.float32))
            patch = patch.to(memory_format=torch.channels_last)
            # The halo feeds both convolutions with true neighbors; the cells that their own
            # padding reached are cut off again.
            skip = module.horizontal(patch)[:, :, HALO:-HALO, HALO:-HALO]
            kept = rng.random((len(chosen), 1, 1, 1)) >= SKIPS_DROPPED
            horizontals.append(skip * torch.from_numpy(kept))
        logits = network.refine(vectors[chosen], horizontals)
        labels = cache.mask_labels[cache.fine_masks[chosen]].astype(np.float32) / 255
        return {"mask": mask_loss(logits.float(), torch.from_numpy(labels))}

    return step


def _all_vectors(network: DeepMask, cache: WindowCache, batch: int = 64) -> Tensor:
    vectors = []
    with torch.inference_mode():
        for first in range(0, len(cache.fine_masks), batch):
            chosen = cache.fine_masks[first : first + batch]
            features = cache.coarse[cache.mask_views[chosen]].astype(np.float32)
            coarse, cells = torch.from_numpy(features), cache.mask_cells[chosen]
            vectors.append(window_vectors(network, coarse, np.arange(len(chosen)), cells))
    return torch.cat(vectors).clone()
