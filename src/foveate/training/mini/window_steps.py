# SPDX-License-Identifier: Apache-2.0
"""Training steps of DeepMask and SharpMask from cached features of windows."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from foveate.arrays import Float32Array, Int64Array
from foveate.models.deepmask import CELLS, DeepMask
from foveate.models.losses import mask_loss, score_loss
from foveate.models.sharpmask import SKIP_STRIDES, SharpMask
from foveate.training.loop import Losses, Step, distinct
from foveate.training.mini.window_cache import HALO, WindowCache, small_labels

POSITIVES_PER_VIEW = 2
NEGATIVES_PER_VIEW = 8


def deepmask_step(network: DeepMask, cache: WindowCache, views: int = 48) -> Step:
    """Return the step of DeepMask for ``train_adamw``: masks and scores jointly.

    ``views`` is the number of views whose windows are scored, and of windows whose masks are
    decoded, per batch; at most as many as the cache has.
    """

    def step(rng: np.random.Generator) -> Losses:
        chosen = distinct(rng, len(cache.coarse), views)
        owners, cells, labels = _draw_scored(cache.scores[chosen], rng)
        vectors = window_vectors(network, cache.coarse[chosen], owners, cells)
        scores = network.scores(vectors[:, :, None, None]).flatten()

        masks = distinct(rng, len(cache.mask_views), views)
        coarse, inner = cache.coarse[cache.mask_views[masks]], cache.mask_cells[masks]
        vectors = window_vectors(network, coarse, np.arange(len(masks)), inner)
        targets = small_labels(cache.mask_labels[masks], network.mask_side)
        return {
            "score": score_loss(scores.float(), torch.from_numpy(labels)),
            "mask": mask_loss(network.masks(vectors).float(), torch.from_numpy(targets)),
        }

    return step


def window_vectors(
    network: DeepMask, coarse: NDArray[np.float16], owners: Int64Array, cells: NDArray[np.integer]
) -> Tensor:
    """Compute the (K, vector) vectors of single windows.

    Args:
        network: DeepMask.
        coarse: (B, C, 20, 20) stride-16 features of views.
        owners: (K,) index of the view of each window.
        cells: (K, 2) row and column of each window.
    """
    features = torch.relu(network.neck(torch.from_numpy(coarse.astype(np.float32))))
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


def _draw_scored(
    scores: NDArray[np.int8], rng: np.random.Generator
) -> tuple[Int64Array, Int64Array, Float32Array]:
    """Draw positive and negative windows of each view: their views, cells and labels."""
    owners, cells, labels = [], [], []
    for view, grid in enumerate(scores):
        for label, limit in ((1, POSITIVES_PER_VIEW), (0, NEGATIVES_PER_VIEW)):
            found = rng.permutation(np.argwhere(grid == label))[:limit]
            owners += [view] * len(found)
            labels += [label] * len(found)
            cells.append(found)
    return np.array(owners), np.concatenate(cells), np.array(labels, np.float32)


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
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types no layout here
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
            coarse, cells = cache.coarse[cache.mask_views[chosen]], cache.mask_cells[chosen]
            vectors.append(window_vectors(network, coarse, np.arange(len(chosen)), cells))
    return torch.cat(vectors).clone()
