# SPDX-License-Identifier: Apache-2.0
"""SharpMask's refinement module, in the paper's form and in the released one.

Pinheiro, Lin, Collobert & Dollar, "Learning to Refine Object Segments" (ECCV 2016), section 3. The
paper concatenates skip features S and mask encoding M, convolves, and upsamples bilinearly:

    M' = up2(relu(W * [S; M] + b))

A convolution of a concatenation is the sum of two convolutions, W_S * S + W_M * M (section 3.3), so
the *horizontal* half runs once on a whole level and the *vertical* half on chosen windows only. The
released networks start from the sum: the vertical half is two convolutions with a ReLU between
them, and upsampling repeats pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from foveate.errors import ModelError
from foveate.models.bilinear_upsample import BilinearUpsample2d
from foveate.models.symmetric_padding import Padding, convolution

Form = Literal["paper", "released"]


class Refinement(nn.Module):
    """One refinement module: (skip features, mask encoding) -> encoding at twice the resolution.

    Args:
        skip_channels: channels of the trunk's features at this stride.
        reduced_channels: what convolutions reduce them to, one after the other; the last are the
            skip features of the paper's equation.
        inputs: channels of the incoming mask encoding.
        outputs: channels of the outgoing one.
        form: of the vertical half and the upsampling.
        padding: of the convolutions.

    Raises:
        ModelError: there is no such form.
    """

    def __init__(
        self,
        *,
        skip_channels: int,
        reduced_channels: Sequence[int],
        inputs: int,
        outputs: int,
        form: Form,
        padding: Padding,
    ):
        super().__init__()
        if form not in get_args(Form):
            raise ModelError(
                f"no form is named {form!r}", remedy=f"use {' or '.join(get_args(Form))}"
            )
        self.outputs = outputs
        self.horizontal = nn.Sequential()
        for before, after in pairwise([skip_channels, *reduced_channels]):
            self.horizontal.append(convolution(before, after, 3, padding=padding))
            self.horizontal.append(nn.ReLU())
        self.horizontal.append(convolution(reduced_channels[-1], outputs, 3, padding=padding))
        self.vertical: nn.Module
        self.upsample: nn.Module
        if form == "paper":
            self.vertical = convolution(inputs, outputs, 3, padding=padding, bias=False)
            self.upsample = BilinearUpsample2d(scale=2)
        else:
            self.vertical = nn.Sequential(
                convolution(inputs, inputs, 3, padding=padding),
                nn.ReLU(),
                convolution(inputs, outputs, 3, padding=padding),
            )
            self.upsample = nn.UpsamplingNearest2d(scale_factor=2)

    def forward(self, encoding: Tensor, horizontal: Tensor) -> Tensor:
        """Refine.

        Args:
            encoding: (K, inputs, S, S) mask encodings.
            horizontal: (K, outputs, S, S) windows of the horizontal half's output.

        Returns:
            (K, outputs, 2 S, 2 S).
        """
        refined: Tensor = self.upsample(torch.relu(self.vertical(encoding) + horizontal))
        return refined
