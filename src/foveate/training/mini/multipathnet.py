# SPDX-License-Identifier: Apache-2.0
"""Batches and losses of MultiPathNet: regions of SharpMask's proposals, integral loss and boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.models.losses import box_loss, integral_loss
from foveate.models.multipathnet import INTEGRAL_THRESHOLDS, MultiPathNet
from foveate.training.loop import Losses, Step, distinct
from foveate.training.mini.region_cache import RegionCache, RegionSample
from foveate.training.sampling.boxes import box_iou, encode_deltas

REGIONS_PER_IMAGE = 64
FOREGROUND_SHARE = 0.25
"""As the paper samples them (section 4)."""

FOREGROUND_IOU = 0.5


def multipathnet_step(
    network: MultiPathNet,
    cache: RegionCache,
    delta_mean: NDArray[np.float32],
    delta_std: NDArray[np.float32],
    images: int = 4,
) -> Step:
    """Make the step for `training.loop.run`; freezes the trunk.

    Args:
        network: MultiPathNet.
        cache: its training regions.
        delta_mean: (4,) subtracted from the box targets.
        delta_std: (4,) that they are divided by.
        images: images in a batch; at most as many as the cache has.
    """
    network.trunk.requires_grad_(False)
    batches = [_pooled_batch(network, cache[index], index) for index in range(len(cache))]

    def step(rng: np.random.Generator) -> Losses:
        chosen = [batches[index] for index in distinct(rng, len(batches), images)]
        towers = zip(*(batch.pooled for batch in chosen), strict=True)
        # Autocast refuses to join float16, so each goes back to float32 first.
        pooled = [torch.cat([regions.float() for regions in tower]) for tower in towers]
        logits, deltas = network.logits(pooled)
        labels = torch.cat([batch.labels for batch in chosen], dim=1)
        targets = np.concatenate([batch.targets for batch in chosen])
        normalised = torch.from_numpy((targets - delta_mean) / delta_std)
        return {
            "class": integral_loss(logits.float(), labels),
            "box": box_loss(deltas.float(), normalised, labels[0]),
        }

    return step


@dataclass(frozen=True, kw_only=True)
class _PooledBatch:
    """An image's regions, pooled by the frozen trunk: 9 MB for 64 regions.

    Attributes:
        pooled: (R, C, P, P) float16 a tower.
        labels: (heads, R) int64.
        targets: (R, 4) float32, not normalised.
    """

    pooled: list[Tensor]
    labels: Tensor
    targets: NDArray[np.float32]


def _pooled_batch(network: MultiPathNet, sample: RegionSample, seed: int) -> _PooledBatch:
    boxes, labels, targets = _draw_regions(sample, np.random.default_rng(seed))
    maps = {s: torch.from_numpy(m.astype(np.float32))[None] for s, m in sample.maps.items()}
    with torch.no_grad():
        pooled = [regions.half() for regions in network.pool(maps, torch.from_numpy(boxes))]
    return _PooledBatch(pooled=pooled, labels=torch.from_numpy(labels), targets=targets)


def delta_statistics(
    cache: RegionCache, images: int = 300
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Measure mean and standard deviation of the foregrounds' box targets: (4,) each."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(min(images, len(cache))):
        _, labels, targets = _draw_regions(cache[index], rng)
        found.append(targets[labels[0] > 0])
    deltas = np.concatenate(found)
    return deltas.mean(0).astype(np.float32), deltas.std(0).astype(np.float32)


def _draw_regions(
    sample: RegionSample, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Draw an image's regions: boxes (R, 4), labels (heads, R) and box targets (R, 4)."""
    candidates = np.concatenate([sample.proposals, jittered(sample.truths, rng), sample.truths])
    iou = box_iou(candidates, sample.truths)
    best, overlap = iou.argmax(1), iou.max(1)
    foreground = np.flatnonzero(overlap >= FOREGROUND_IOU)
    background = np.flatnonzero(overlap < FOREGROUND_IOU)
    wanted = round(REGIONS_PER_IMAGE * FOREGROUND_SHARE)
    chosen = np.concatenate(
        [
            rng.permutation(foreground)[:wanted],
            rng.permutation(background)[: REGIONS_PER_IMAGE - wanted],
        ]
    )
    labels = np.stack(
        [
            np.where(overlap[chosen] >= threshold, sample.labels[best[chosen]], 0)
            for threshold in INTEGRAL_THRESHOLDS
        ]
    )
    targets = encode_deltas(candidates[chosen], sample.truths[best[chosen]])
    return candidates[chosen], labels, targets


def jittered(
    boxes: NDArray[np.float32], rng: np.random.Generator, copies: int = 4
) -> NDArray[np.float32]:
    """Move and stretch (N, 4) xyxy boxes at random: (copies N, 4)."""
    repeated = np.repeat(boxes, copies, axis=0)
    size = repeated[:, 2:] - repeated[:, :2]
    centre = (repeated[:, :2] + repeated[:, 2:]) / 2 + rng.normal(0, 0.12, size.shape) * size
    size = size * np.exp(rng.normal(0, 0.2, size.shape))
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)
