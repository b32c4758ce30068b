# SPDX-License-Identifier: Apache-2.0
"""Layers: a cut-out, scaled and turned, and the way it is laid over an image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from compose.library import Cutout
from compose.options import ObjectOptions
from compose.photometric import blur, change_light, draw_sigma
from compose.resize import resize


# Everything that averages pixels (shrinking, turning, blurring) works on premultiplied color, because
# the color under a transparent pixel is arbitrary: averaged as it is, it would leak into the edge as a
# dark or white fringe.
@dataclass(frozen=True, kw_only=True)
class Layer:
    """An object to lay over an image.

    Args:
        color: (h, w, 3) float32 RGB, 0..255, premultiplied by alpha.
        alpha: (h, w) float32, 0..1.
    """

    color: NDArray[np.float32]
    alpha: NDArray[np.float32]


def draw_layer(
    cutout: Cutout, larger_side: float, options: ObjectOptions, rng: np.random.Generator
) -> Layer:
    """Make a layer of a cut-out: light, size, angle, mirror, blur, soft edge.

    Args:
        cutout: Cut-out to show.
        larger_side: Larger side of the cut-out before it is turned, in pixels.
        options: Ranges of each change.
        rng: The only source of randomness.
    """
    image = change_light(cutout.image, options.light, rng)
    mirrored, turned, angle, stretch = rng.uniform(size=4)
    if mirrored < options.flip:
        image = image[:, ::-1]
    limit = 180.0 if turned < options.upside_down else options.rotation
    height, width = image.shape[:2]
    scale = min(larger_side / max(height, width), options.enlargement)
    aspect = np.exp(options.stretch * (stretch - 0.5))
    rgba = transform(
        image,
        width=scale * width * aspect,
        height=scale * height / aspect,
        degrees=limit * (2 * angle - 1),
    )
    rgba = blur(rgba, draw_sigma(options.blur, rng))
    return feather(rgba, options.feather * rng.uniform())


def transform(
    image: NDArray[np.uint8], *, width: float, height: float, degrees: float
) -> NDArray[np.float32]:
    """Scale a cut-out and turn it about its middle, on a canvas that holds all of it.

    Args:
        image: (H, W, 4) uint8 RGBA, not premultiplied.
        width: The new width in pixels, before turning.
        height: The new height in pixels, before turning.
        degrees: The angle, counterclockwise.

    Returns:
        (h, w, 4) float32 RGBA, 0..255, premultiplied, with a transparent margin.
    """
    alpha = image[..., 3:].astype(np.float32)
    rgba = np.concatenate([image[..., :3] * (alpha / 255), alpha], axis=2)
    size = (max(1, round(width)), max(1, round(height)))
    rgba = resize(rgba, size)
    angle = np.deg2rad(degrees)
    cosine, sine = abs(np.cos(angle)), abs(np.sin(angle))
    canvas = (
        int(np.ceil(size[0] * cosine + size[1] * sine)) + 4,
        int(np.ceil(size[0] * sine + size[1] * cosine)) + 4,
    )
    matrix = cv2.getRotationMatrix2D(((size[0] - 1) / 2, (size[1] - 1) / 2), degrees, 1.0)
    matrix = matrix + np.array([[0, 0, canvas[0] - size[0]], [0, 0, canvas[1] - size[1]]]) / 2
    turned = cv2.warpAffine(rgba, matrix, canvas, flags=cv2.INTER_LINEAR)
    return np.asarray(turned, dtype=np.float32)


def feather(rgba: NDArray[np.float32], sigma: float) -> Layer:
    """Soften an edge inwards: alpha only falls, so that no color is needed beyond the edge.

    Args:
        rgba: (h, w, 4) float32, 0..255, premultiplied.
        sigma: Standard deviation of the blur of alpha, in pixels.
    """
    alpha = np.asarray(rgba[..., 3].clip(0, 255) / 255, dtype=np.float32)
    # 1/4 where the edge was, 1 well inside, 0 from a little outside on.
    inner = (1.5 * blur(alpha, sigma) - 0.5).clip(0, 1)
    softer = np.minimum(alpha, inner) if sigma > 0 else alpha
    factor = softer / np.maximum(alpha, np.float32(1e-6))
    return Layer(color=rgba[..., :3] * factor[..., None], alpha=softer)


def overlap(
    layer_shape: tuple[int, ...], left: int, top: int, image_shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Return the intersection of a layer at (left, top) and an image.

    Args:
        layer_shape: (h, w, ...).
        left: Column of the image at which the layer begins; may be negative.
        top: Row, likewise.
        image_shape: (H, W, ...).

    Returns:
        The rows and columns of the layer, and those of the image; None if they do not meet.
    """
    first_row, last_row = max(0, top), min(image_shape[0], top + layer_shape[0])
    first_column, last_column = max(0, left), min(image_shape[1], left + layer_shape[1])
    if first_row >= last_row or first_column >= last_column:
        return None
    return (
        (slice(first_row - top, last_row - top), slice(first_column - left, last_column - left)),
        (slice(first_row, last_row), slice(first_column, last_column)),
    )


def lay_over(image: NDArray[np.float32], layer: Layer, left: int, top: int) -> None:
    """Lay a layer over an image, in place.

    Args:
        image: (H, W, 3) float32 RGB, 0..255.
        layer: Layer to lay over it.
        left: Column of its left edge in the image.
        top: Row of its upper edge.
    """
    meeting = overlap(layer.alpha.shape, left, top, image.shape)
    if meeting is None:
        return
    own, target = meeting
    image[target] *= 1 - layer.alpha[own][..., None]
    image[target] += layer.color[own]


def cast_shadow(
    image: NDArray[np.float32], layer: Layer, left: int, top: int, rng: np.random.Generator
) -> None:
    """Darken, in place, what lies to the side of a layer that is about to be laid there.

    Args:
        image: (H, W, 3) float32 RGB, 0..255.
        layer: Layer that casts the shadow.
        left: Column of its left edge in the image.
        top: Row of its upper edge.
        rng: Direction, distance, softness and strength are drawn.
    """
    distance = 0.05 * max(layer.alpha.shape)
    right, down, softness, strength = rng.uniform((-1, 0.1, 0.2, 0.15), (1, 1, 0.6, 0.55))
    sigma = max(1.0, float(softness * distance))
    margin = round(3 * sigma)
    dark = blur(np.pad(layer.alpha, margin), sigma)
    shadow = Layer(color=np.zeros((*dark.shape, 3), np.float32), alpha=np.float32(strength) * dark)
    lay_over(
        image,
        shadow,
        left - margin + round(right * distance),
        top - margin + round(down * distance),
    )
