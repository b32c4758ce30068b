# SPDX-License-Identifier: Apache-2.0
"""Changes of light, sharpness and noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from compose.options import FinishOptions, LightOptions, Range


def change_light(
    image: NDArray[np.uint8], options: LightOptions, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Change brightness, contrast, gamma and color temperature of the first three channels.

    Args:
        image: (H, W, 3) RGB or (H, W, 4) RGBA, uint8; left as it is.
        options: Ranges of the changes.
        rng: Four numbers are drawn.
    """
    brightness, contrast, gamma, temperature = rng.uniform(-1, 1, 4)
    levels = (np.arange(256) / 255) ** np.exp(options.gamma * gamma)
    levels = (levels - 0.5) * (1 + options.contrast * contrast) + 0.5
    levels = levels + options.brightness * brightness
    warmth = np.exp(options.temperature * temperature * np.array([0.5, 0.0, -0.5]))
    table = (255 * levels[:, None] * warmth).clip(0, 255).round().astype(np.uint8)
    color = cv2.LUT(np.ascontiguousarray(image[..., :3]), table[:, None, :])
    return np.asarray(np.dstack([color, image[..., 3:]]), dtype=np.uint8)


def draw_sigma(options: Range, rng: np.random.Generator) -> float:
    """Draw a sigma up to the second number in a share of cases, the first number; otherwise 0."""
    share, largest = options
    chosen, strength = rng.uniform(size=2)
    return float(largest * strength) if chosen < share else 0.0


def blur(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur by a Gaussian; a sigma that is too small to be seen changes nothing."""
    if sigma < 0.25:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.float32)


def finish(
    image: NDArray[np.float32], options: FinishOptions, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Change an image as a camera and a file do: light, blur, noise, compression.

    Args:
        image: (H, W, 3) float32 RGB, 0..255.
        options: Ranges of the changes.
        rng: The only source of randomness.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    result = blur(image, draw_sigma(options.blur, rng))
    noise = draw_sigma(options.noise, rng)
    if noise > 0:
        result = result + noise * rng.standard_normal(result.shape, dtype=np.float32)
    levels = result.clip(0, 255).round().astype(np.uint8)
    levels = change_light(levels, options.light, rng)
    chosen, quality = rng.uniform(size=2)
    if chosen < options.recompress:
        levels = _recompress(levels, 40 + round(50 * quality))
    return levels


def _recompress(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    flipped = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", flipped, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])
