# SPDX-License-Identifier: Apache-2.0
"""The hyperparameters of the training of ``mini``, by the number of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from foveate.training.loop import LoopOptions
from foveate.training.mini.regions import RegionOptions
from foveate.training.mini.window_cache import CacheOptions

_FULL_IMAGES = 2_000
_LEAST_STEPS = {"deepmask": 100, "mask_head": 20, "sharpmask": 100, "multipathnet": 100}
_LEAST_VIEWS = 120

# Logit from which a pixel belongs to the object: the best of 0, -0.5 and -1 on held-out scenes.
MASK_THRESHOLD = -0.5


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All hyperparameters of a training run; the model card lists those of the shipped ``mini``.

    Args:
        seed: Seed of every draw.
        cache: Windows that DeepMask and SharpMask learn from.
        deepmask: Schedule of DeepMask.
        sharpmask: Schedule of SharpMask.
        mask_head: Schedule of DeepMask's mask head alone, for training that starts from a bundle.
        initial_share: Share of the weights of the start in the mean that is the result, for training
            that starts from a bundle.
        mask_threshold: Logit from which a pixel belongs to the object.
        regions: Images that MultiPathNet learns from.
        multipathnet: Schedule of MultiPathNet.
    """

    seed: int = 0
    cache: CacheOptions = field(default_factory=CacheOptions)
    deepmask: LoopOptions = field(default_factory=lambda: LoopOptions(steps=8_000))
    sharpmask: LoopOptions = field(default_factory=lambda: LoopOptions(steps=5_000))
    mask_head: LoopOptions = field(
        default_factory=lambda: LoopOptions(steps=800, learning_rate=2e-3)
    )
    initial_share: float = 0.5
    mask_threshold: float = MASK_THRESHOLD
    regions: RegionOptions = field(default_factory=RegionOptions)
    multipathnet: LoopOptions = field(default_factory=lambda: LoopOptions(steps=2_500))

    @classmethod
    def sized(cls, images: int) -> Recipe:
        """Return the recipe for a number of training images.

        From 2000 images on, it is the full recipe. Below, the number of steps is reduced in
        proportion, but not below 100 per network (20 for the mask head alone), and each image has
        enough views for a total of at least 120.
        """
        share, recipe = min(1.0, images / _FULL_IMAGES), cls()
        steps = {
            name: max(least, round(share * getattr(recipe, name).steps))
            for name, least in _LEAST_STEPS.items()
        }
        views = max(recipe.cache.views_per_image, -(-_LEAST_VIEWS // max(1, images)))
        return replace(recipe, cache=replace(recipe.cache, views_per_image=views)).stepped(steps)

    def stepped(self, steps: Mapping[str, int]) -> Recipe:
        """Return a copy with other numbers of steps, given by the name of the field."""
        loops: dict[str, Any] = {
            name: replace(getattr(self, name), steps=count, warm_up=min(100, -(-count // 8)))
            for name, count in steps.items()
        }
        return replace(self, **loops)

    def seeded(self, seed: int) -> Recipe:
        """Return a copy in which every draw follows ``seed``."""
        parts: dict[str, Any] = {
            name: replace(getattr(self, name), seed=seed) for name in ("cache", *_LEAST_STEPS)
        }
        return replace(self, seed=seed, **parts)
