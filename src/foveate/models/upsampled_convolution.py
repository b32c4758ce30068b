# SPDX-License-Identifier: Apache-2.0
"""A convolution of an upsampled map that is computed before the upsampling.

Bilinear upsampling by two and a 3x3 convolution are both linear, so each of the four pixels that a
pixel turns into, its phases, is a 3x3 convolution of the small map. One convolution with four times
as many outputs computes them without ever making the large map of inputs. On a processor this pays
for few outputs: vector instructions compute 8 or 16 outputs at a time, needed or not.
"""

import torch
from torch import Tensor, nn

from foveate.models.layers import BilinearUpsample2d

MOST_OUTPUTS = 4
"""Outputs up to which phases pay: those of four fill the 16 lanes of a vector register."""

_NEAR = 2
"""Rows at each edge that depend on how the convolution pads, in pixels of either map."""


def convolve_upsampled(upsample: nn.Module, convolution: nn.Module, x: Tensor) -> Tensor:
    """Return ``convolution(upsample(x))``; an exported graph computes it by phases where that pays.

    Args:
        upsample: Upsampling by two.
        convolution: What reads the upsampled map.
        x: Maps (N, C, H, W).
    """
    if torch.compiler.is_exporting() and _has_phases(upsample, convolution):
        assert isinstance(convolution, nn.Conv2d)
        return by_phases(upsample, convolution, x)
    convolved: Tensor = convolution(upsample(x))
    return convolved


def by_phases(upsample: nn.Module, convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Return ``convolution(upsample(x))``, computed by phases.

    Args:
        upsample: Bilinear upsampling by two.
        convolution: A 3x3 convolution that pads with zeros.
        x: Maps (N, C, H, W), where H and W are at least 4.

    Returns:
        Maps (N, outputs, 2 H, 2 W).
    """
    bias = convolution.bias
    phases = nn.functional.conv2d(
        x,
        _phase_weights(convolution.weight),
        None if bias is None else bias.repeat_interleave(4),
        padding=1,
    )
    inside = nn.functional.pixel_shuffle(phases, 2)[:, :, _NEAR:-_NEAR, _NEAR:-_NEAR]
    # The upsampling repeats the edge and the convolution continues with zeros, which no padding of
    # the small map can express. The outermost pixels are computed from strips along the edges.
    sides = convolution(upsample(_edges(x, 3)))[:, :, _NEAR:-_NEAR]
    middle = torch.cat([sides[..., :_NEAR], inside, sides[..., -_NEAR:]], dim=3)
    ends = convolution(upsample(_edges(x, 2)))
    return torch.cat([ends[:, :, :_NEAR], middle, ends[:, :, -_NEAR:]], dim=2)


def _has_phases(upsample: nn.Module, convolution: nn.Module) -> bool:
    """Return whether the phases of a convolution exist and save work."""
    return (
        isinstance(upsample, BilinearUpsample2d)
        and upsample.scale == 2
        and type(convolution) is nn.Conv2d  # a subclass pads in another way
        and convolution.kernel_size == (3, 3)
        and convolution.padding == (1, 1)
        and convolution.padding_mode == "zeros"
        and convolution.stride == convolution.dilation == (1, 1)
        and convolution.groups == 1
        and convolution.out_channels <= MOST_OUTPUTS
    )


def _edges(x: Tensor, axis: int) -> Tensor:
    """Return the first and last rows, or columns, of maps; between them lies what nothing reads."""
    size = x.shape[axis]
    places = [*range(_NEAR), *range(size - _NEAR, size)]
    return x.index_select(axis, torch.tensor(places))


def _phase_weights(weight: Tensor) -> Tensor:
    """Return the weights of all phases, from (O, C, 3, 3) to (4 O, C, 3, 3).

    The phases of an output are neighbors, in the order that ``pixel_shuffle`` takes.
    """
    # Pixel 2 i + phase + offset of the large map as a sum of pixels i - 1, i and i + 1 of the small
    # one; rows are offsets from -1 to 1.
    even = [[0.75, 0.25, 0.0], [0.25, 0.75, 0.0], [0.0, 0.75, 0.25]]
    odd = [[0.25, 0.75, 0.0], [0.0, 0.75, 0.25], [0.0, 0.25, 0.75]]
    taps = torch.tensor([even, odd], dtype=weight.dtype)
    both = torch.einsum("pda,qeb->depqab", taps, taps).reshape(9, 36)
    outputs, inputs = weight.shape[:2]
    mixed = weight.reshape(outputs * inputs, 9) @ both
    by_output = mixed.reshape(outputs, inputs, 4, 9).transpose(1, 2)
    return by_output.reshape(4 * outputs, inputs, 3, 3)
