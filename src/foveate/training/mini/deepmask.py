# SPDX-License-Identifier: Apache-2.0
"""Batches and losses of DeepMask: masks and scores jointly, from cached features."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from foveate.models.deepmask import CELLS, DeepMask
from foveate.models.losses import mask_loss, score_loss
from foveate.training.loop import Losses, Step, distinct
from foveate.training.mini.window_cache import WindowCache, small_labels

POSITIVES_PER_VIEW = 2
NEGATIVES_PER_VIEW = 8


def deepmask_step(network: DeepMask, cache: WindowCache, views: int = 48) -> Step:
    """Make the step for `training.loop.run`.

    Args:
        network: DeepMask.
        cache: its training windows.
        views: views whose windows are scored, and windows whose masks are decoded, in a batch; at
            most as many as the cache has.
    """

    def step(rng: np.random.Generator) -> Losses:
        chosen = distinct(rng, len(cache.coarse), views)
        owners, cells, labels = _draw_scored(cache.scores[chosen], rng)
        vectors = window_vectors(network, cache.coarse[chosen], owners, cells)
        scores = network.scores(vectors[:, :, None, None]).flatten()

        masks = distinct(rng, len(cache.mask_views), views)
        vectors = window_vectors(
            network,
            cache.coarse[cache.mask_views[masks]],
            np.arange(len(masks)),
            cache.mask_cells[masks],
        )
        targets = small_labels(cache.mask_labels[masks], network.mask_side)
        return {
            "score": score_loss(scores.float(), torch.from_numpy(labels)),
            "mask": mask_loss(network.masks(vectors).float(), torch.from_numpy(targets)),
        }

    return step


def window_vectors(
    network: DeepMask,
    coarse: NDArray[np.float16],
    owners: NDArray[np.int64],
    cells: NDArray[np.integer],
) -> Tensor:
    """Compute the vectors of single windows.

    Args:
        network: DeepMask.
        coarse: (B, C, 20, 20) stride-16 features of views.
        owners: (K,) the view of each window.
        cells: (K, 2) its row and column.

    Returns:
        (K, vector).
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
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Draw positive and negative windows of each view: their views, cells and labels."""
    owners, cells, labels = [], [], []
    for view, grid in enumerate(scores):
        for label, limit in ((1, POSITIVES_PER_VIEW), (0, NEGATIVES_PER_VIEW)):
            found = rng.permutation(np.argwhere(grid == label))[:limit]
            owners += [view] * len(found)
            labels += [label] * len(found)
            cells.append(found)
    return np.array(owners), np.concatenate(cells), np.array(labels, np.float32)
