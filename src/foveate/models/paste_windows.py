# SPDX-License-Identifier: Apache-2.0
"""Pasting of window masks into an image as bits; in an exported graph it is one node.

Windows are placed and resampled as in ``foveate.results.window_mask``. Resampling is linear and
separable: the mask of a window is A_y M A_x^T, where a row of A_y (of A_x) has the weights of the
samples in a row (a column) of the image.
"""

from typing import TypeAlias

import torch
from torch import Tensor, nn

Pasted: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Bits, areas and boxes of the masks, see ``PasteWindows``."""

FARTHEST_EDGE = 2**18
"""Largest coordinate of an edge of a window, in pixels; a window beyond it has an empty mask."""


class PasteWindows(nn.Module):
    """Pasting of the masks of windows into an image.

    Args:
        threshold: Resampled logit above which a pixel is foreground.
    """

    def __init__(self, threshold: float):
        super().__init__()
        self.threshold = threshold

    def forward(self, logits: Tensor, geometry: Tensor, size: Tensor) -> Pasted:
        """Paste K windows.

        Args:
            logits: Mask logits over each window, (K, S, S) float32.
            geometry: Left, top, width and height of each window in pixels of the image, (K, 4)
                float32. A width of 0 marks padding, whose mask is empty.
            size: Height H and width W of the image, (2,) int64 on the CPU.

        Returns:
            Masks (K, H, ceil(W / 32)) int32, where bit i of word j is column 32 j + i and bits
            after the last column are 0; their areas (K,) int32 in pixels; their boxes (K, 4)
            float32 xyxy in pixels of the image, zeros for an empty mask.
        """
        masks: Pasted = _paste_windows(logits, geometry, size, self.threshold)
        return masks


@torch.library.custom_op("foveate::paste_windows", mutates_args=())
def _paste_windows(
    logits: Tensor, geometry: Tensor, size: Tensor, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    height, width = size.tolist()
    words = -(-width // 32)
    samples = logits.shape[-1]
    x0, y0, w, h = geometry.double().unbind(1)
    known = geometry.isfinite().all(1) & (w != 0)
    left, top = (x0 + 0.5).floor(), (y0 + 0.5).floor()
    right, bottom = (x0 + w + 0.5).floor(), (y0 + h + 0.5).floor()
    edges = (left, top, right, bottom)
    for edge in edges:
        known = known & (edge.abs() <= FARTHEST_EDGE)
    x, y, end_x, end_y = (torch.where(known, edge, 0.0).long() for edge in edges)
    rows, in_rows = _axis(y, (end_y - y).clamp(min=1), height, samples)
    columns, in_columns = _axis(x, (end_x - x).clamp(min=1), 32 * words, samples)
    in_columns &= torch.arange(32 * words) < width
    on = rows @ logits.float() @ columns.transpose(1, 2) > threshold
    on &= (in_rows & known[:, None])[:, :, None] & in_columns[:, None]
    return _bits(on), on.sum((1, 2), dtype=torch.int32), _boxes(on)


def _axis(start: Tensor, length: Tensor, pixels: int, samples: int) -> tuple[Tensor, Tensor]:
    """Return the weights of samples in pixels (K, pixels, samples), and the pixels inside."""
    place = torch.arange(pixels) - start[:, None]
    inside = (place >= 0) & (place < length[:, None])
    index = torch.minimum(place.clamp(min=0), length[:, None] - 1)[:, :, None]
    length = length[:, None, None]
    # From integers: in float32 a position would be wrong by up to 1e-5 samples.
    position = ((2 * index + 1) * samples - length).clamp(min=0)
    first = position // (2 * length)
    rest = torch.where(first < samples - 1, (position - first * 2 * length) / (2 * length), 0.0)
    # An enlarged window interpolates two neighbors; a reduced one averages all samples that a
    # pixel overlaps.
    reach = ((length + samples) / (2 * length)).clamp(min=1)
    overlap = (reach - (torch.arange(samples) - first - rest).abs()).clamp(0, 1)
    return overlap * (length / samples).clamp(max=1), inside


def _bits(on: Tensor) -> Tensor:
    # Bit 31 is the sign, so that its weight is negative.
    weights = torch.tensor([1 << i for i in range(31)] + [-(1 << 31)], dtype=torch.int32)
    count, height, width = on.shape
    return (on.view(count, height, width // 32, 32) * weights).sum(3, dtype=torch.int32)


def _boxes(on: Tensor) -> Tensor:
    edges = []
    for lines in (on.any(1), on.any(2)):
        index = torch.arange(lines.shape[1])
        first = torch.where(lines, index, lines.shape[1]).amin(1)
        last = torch.where(lines, index + 1, 0).amax(1)
        edges.append((torch.where(last > 0, first, 0), last))
    (left, right), (top, bottom) = edges
    return torch.stack([left, top, right, bottom], 1).float()


@_paste_windows.register_fake
def _fake(logits: Tensor, geometry: Tensor, size: Tensor, threshold: float) -> Pasted:
    del size, threshold  # a fake tensor has no values
    context = torch.library.get_ctx()
    height, words = context.new_dynamic_size(), context.new_dynamic_size()
    count = logits.shape[0]
    masks = logits.new_empty((count, height, words), dtype=torch.int32)
    areas = logits.new_empty((count,), dtype=torch.int32)
    return masks, areas, geometry.new_empty((count, 4))


PASTE_WINDOWS = torch.ops.foveate.paste_windows.default
"""The node of exported graphs that pastes."""
