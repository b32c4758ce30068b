# SPDX-License-Identifier: Apache-2.0
"""Backgrounds, and distractors cut out of them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from compose.layer import Layer
from compose.library import Background, Library
from compose.options import BackgroundOptions, ComposeOptions, DistractorOptions
from compose.photometric import blur, change_light, draw_sigma
from compose.resize import resize


def draw_background(
    library: Library, size: tuple[int, int], options: ComposeOptions, rng: np.random.Generator
) -> tuple[NDArray[np.float32], Background]:
    """Draw a background for an image.

    Args:
        library: Library with the backgrounds.
        size: (width, height) of the image.
        options: Settings of the changes.
        rng: The only source of randomness.

    Returns:
        (height, width, 3) float32 RGB, 0..255, and what it shows (most of, where two are blended).
    """
    background = _draw(library, rng)
    image = _crop(background, size, options.backgrounds, rng)
    if rng.uniform() < options.backgrounds.blend:
        other = _crop(_draw(library, rng), size, options.backgrounds, rng)
        weight = _wavy_mask(size, rng, softness=rng.uniform(0.005, 0.2))[..., None]
        # At most half of the image: the first background remains what it is mainly made of.
        weight = 1 - weight if weight.mean() > 0.5 else weight
        image = image + weight * (other - image)
    return image, background


def _draw(library: Library, rng: np.random.Generator) -> Background:
    kind = library.backgrounds[rng.integers(len(library.backgrounds))]
    family = kind[rng.integers(len(kind))]
    return family[rng.integers(len(family))]


def _crop(
    background: Background,
    size: tuple[int, int],
    options: BackgroundOptions,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Cut out a random part of the image's aspect, resized to (width, height)."""
    height, width = background.image.shape[:2]
    largest = min(width / size[0], height / size[1])
    scale = largest * rng.uniform(*options.crop)
    w, h = (max(1, min(int(scale * size[0]), width)), max(1, min(int(scale * size[1]), height)))
    left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
    part = background.image[top : top + h, left : left + w]
    if rng.uniform() < options.flip:
        part = part[:, ::-1]
    part = resize(np.ascontiguousarray(part), size, growing=cv2.INTER_CUBIC)
    part = change_light(part, options.light, rng)
    return blur(part.astype(np.float32), draw_sigma(options.blur, rng))


def _wavy_mask(
    size: tuple[int, int], rng: np.random.Generator, *, softness: float
) -> NDArray[np.float32]:
    """Draw a smooth random division of a rectangle into two.

    Args:
        size: (width, height) in pixels.
        rng: The only source of randomness.
        softness: Width of the transition, as a share of the range of the waves.

    Returns:
        (height, width) float32, 0..1.
    """
    waves = rng.standard_normal((4, 4)).astype(np.float32)
    waves = resize(waves, size, growing=cv2.INTER_CUBIC)
    level = np.float32(rng.uniform(-0.3, 0.3))
    return np.asarray(((waves - level) / np.float32(softness) + 0.5).clip(0, 1), dtype=np.float32)


def draw_distractors(
    library: Library, options: ComposeOptions, rng: np.random.Generator
) -> list[tuple[Layer, bool]]:
    """Draw patches of backgrounds, blob-shaped or angular.

    Returns:
        Each patch, and whether it lies in front of the objects.
    """
    wanted = options.distractors
    if rng.uniform() >= wanted.share:
        return []
    return [
        (_patch(library, options, rng), bool(rng.uniform() < wanted.in_front))
        for _ in range(rng.integers(1, wanted.count + 1))
    ]


def _patch(library: Library, options: ComposeOptions, rng: np.random.Generator) -> Layer:
    width, height = _patch_size(options.distractors, rng)
    image = _crop(_draw(library, rng), (width, height), options.backgrounds, rng)
    shape = _blob(width, height, rng) if rng.uniform() < 0.6 else _polygon(width, height, rng)
    alpha = blur(shape, rng.uniform(0.5, 1.2)).clip(0, 1)
    return Layer(color=image * alpha[..., None], alpha=alpha)


def _patch_size(options: DistractorOptions, rng: np.random.Generator) -> tuple[int, int]:
    side = np.exp(rng.uniform(*np.log(options.larger_side)))
    other = side * rng.uniform(0.25, 1)
    width, height = (side, other) if rng.uniform() < 0.5 else (other, side)
    return max(12, round(width)), max(12, round(height))


def _blob(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return an ellipse with a wavy outline."""
    x = (np.arange(width, dtype=np.float32) + 0.5) / width * 2 - 1
    y = (np.arange(height, dtype=np.float32) + 0.5) / height * 2 - 1
    dome = 1 - (x[None, :] ** 2 + y[:, None] ** 2)
    grid = int(rng.integers(3, 7))
    waves = rng.standard_normal((grid, grid)).astype(np.float32)
    waves = resize(waves, (width, height), growing=cv2.INTER_CUBIC)
    mask = (2 * dome + np.float32(0.8) * waves > 0.5) & (dome > 0.02)
    return np.asarray(mask, dtype=np.float32)


def _polygon(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a star-shaped polygon with 3 to 8 corners."""
    corners = int(rng.integers(3, 9))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = rng.uniform(0.5, 0.95, corners)
    points = np.stack([np.cos(angles) * radius * width, np.sin(angles) * radius * height], axis=1)
    points = points / 2 + (width / 2, height / 2)
    mask = np.zeros((height, width), np.float32)
    cv2.fillPoly(mask, [points.round().astype(np.int32)], (1.0,))
    return mask
