# SPDX-License-Identifier: Apache-2.0
"""SharpMask: refine the masks of DeepMask with the finer maps of the trunk, coarse to fine.

Pinheiro, Lin, Collobert & Dollar, "Learning to Refine Object Segments" (ECCV 2016), section 3. The
paper concatenates skip features S and mask encoding M, convolves, and upsamples bilinearly:

    M' = up2(relu(W * [S; M] + b))
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from foveate.errors import ModelError
from foveate.models.deepmask import STRIDE, DeepMask
from foveate.models.layers import BilinearUpsample2d, Padding, convolution
from foveate.models.upsampled_convolution import convolve_upsampled

Form = Literal["paper", "released"]
"""Form of the refinement: the equation of the paper, or that of the original code."""

SKIP_STRIDES = (16, 8, 4, 2)
"""Strides of the skip features, one per refinement module, in the order of refinement.

A trunk may lack finer ones. The module before a missing map upsamples further.
"""


class Refinement(nn.Module):
    """One refinement module: from skip features and a mask encoding to a larger one.

    Args:
        skip_channels: Channels of the map of the trunk at this stride.
        reduced_channels: Channels to which convolutions reduce them, one after the other; the last
            are the skip features S of the equation.
        inputs: Channels of the incoming mask encoding.
        outputs: Channels of the outgoing mask encoding.
        scale: Factor by which the outgoing mask encoding is upsampled.
        form: Form of the vertical half and of the upsampling.
        padding: Padding of the convolutions.

    Raises:
        ModelError: There is no such form.
    """

    def __init__(
        self,
        *,
        skip_channels: int,
        reduced_channels: Sequence[int],
        inputs: int,
        outputs: int,
        scale: int,
        form: Form,
        padding: Padding,
    ):
        super().__init__()
        if form not in get_args(Form):
            known = " or ".join(get_args(Form))
            raise ModelError(f"no form is named {form!r}", remedy=f"use {known}")
        self.outputs = outputs
        # A convolution of a concatenation is the sum of two, W_S * S + W_M * M (section 3.3): the
        # horizontal half runs once per map, the vertical half on the chosen windows alone.
        self.horizontal = nn.Sequential()
        for before, after in pairwise([skip_channels, *reduced_channels]):
            self.horizontal.extend([convolution(before, after, 3, padding=padding), nn.ReLU()])
        self.horizontal.append(convolution(reduced_channels[-1], outputs, 3, padding=padding))
        self.vertical: nn.Module
        self.upsample: nn.Module
        if form == "paper":
            # Without a bias, which would be the second one of the sum.
            self.vertical = convolution(inputs, outputs, 3, padding=padding, bias=False)
            self.upsample = BilinearUpsample2d(scale=scale)
        else:
            self.vertical = nn.Sequential(
                convolution(inputs, inputs, 3, padding=padding),
                nn.ReLU(),
                convolution(inputs, outputs, 3, padding=padding),
            )
            self.upsample = nn.UpsamplingNearest2d(scale_factor=scale)

    def forward(self, encoding: Tensor, horizontal: Tensor, upsample: nn.Module) -> Tensor:
        """Refine encodings (K, inputs, s, s) to (K, outputs, S, S), which are yet to be upsampled.

        Args:
            encoding: Mask encodings.
            horizontal: Windows of the output of the horizontal half, (K, outputs, S, S).
            upsample: Upsampling of the encodings from s to S; that of the module before.
        """
        return torch.relu(convolve_upsampled(upsample, self.vertical, encoding) + horizontal)


class SharpMask(nn.Module):
    """A DeepMask, whose weights stay frozen, and the top-down path that refines its masks.

    Args:
        deepmask: Proposal network.
        reduced_channels: ``reduced_channels`` of each refinement module.
        encoding_channels: Channels of the mask encoding before and after each module. Those of
            modules for which the trunk has no map are ignored.
        form: Form of the refinement modules.
        padding: Padding of all convolutions of the refinement.

    Attributes:
        strides: Those of ``SKIP_STRIDES`` that the trunk has, one per module.
        mask_side: Side of a mask, that of a window.

    Raises:
        ModelError: The trunk has none that is finer than 16.
    """

    def __init__(
        self,
        *,
        deepmask: DeepMask,
        reduced_channels: Sequence[Sequence[int]],
        encoding_channels: Sequence[int],
        form: Form,
        padding: Padding,
    ):
        super().__init__()
        self.deepmask = deepmask
        self.cells = deepmask.window // STRIDE
        self.mask_side = deepmask.window
        channels = deepmask.trunk.channels
        self.strides = tuple(stride for stride in SKIP_STRIDES if stride in channels)
        if len(self.strides) == 1:
            raise ModelError(
                f"SharpMask refines with maps of strides 8, 4 and 2, and the trunk has "
                f"{', '.join(map(str, channels))}",
                remedy="use DeepMask, or a trunk with one of these maps",
            )
        scales = [a // b for a, b in pairwise([*self.strides, 1])]
        vector = deepmask.embed.out_channels
        self.encode = nn.Linear(vector, encoding_channels[0] * self.cells**2)
        self.refinements = nn.ModuleList(
            Refinement(
                skip_channels=channels[stride],
                reduced_channels=reduced_channels[i],
                inputs=encoding_channels[i],
                outputs=encoding_channels[i + 1],
                scale=scales[i],
                form=form,
                padding=padding,
            )
            for i, stride in enumerate(self.strides)
        )
        self.mask = convolution(encoding_channels[len(self.strides)], 1, 3, padding=padding)

    @property
    def coarse_to_fine(self) -> list[Refinement]:
        """The refinement modules in the order of ``strides``."""
        return [module for module in self.refinements if isinstance(module, Refinement)]

    def horizontals(self, features: dict[int, Tensor]) -> list[Tensor]:
        """Run the horizontal halves over maps (N, C, H, W) of the trunk, given by stride.

        Returns:
            Maps (N, outputs, H, W), one per stride of ``strides``.
        """
        return [
            module.horizontal(features[stride])
            for module, stride in zip(self.coarse_to_fine, self.strides, strict=True)
        ]

    def refine(self, vectors: Tensor, horizontals: Sequence[Tensor]) -> Tensor:
        """Decode windows to masks.

        Args:
            vectors: Window vectors of DeepMask, (K, vector).
            horizontals: Windows of the horizontal maps, (K, outputs, S, S) with S = 10, 20, 40 and
                80 for a window of 160 px and all four strides.

        Returns:
            Mask logits over each window, (K, window, window).
        """
        channels = self.encode.out_features // self.cells**2
        encoding: Tensor = self.encode(vectors).reshape(-1, channels, self.cells, self.cells)
        upsample: nn.Module = nn.Identity()
        for module, horizontal in zip(self.coarse_to_fine, horizontals, strict=True):
            encoding = module(encoding, horizontal, upsample)
            upsample = module.upsample
        return convolve_upsampled(upsample, self.mask, encoding).squeeze(1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the outputs of ``DeepMask.forward``, and the horizontal maps."""
        features = self.deepmask.trunk(image)
        scores, vectors = self.deepmask.windows(features[STRIDE])
        return scores, vectors, self.horizontals(features)

    def patch_scores(self, patches: Tensor) -> Tensor:
        """Score the window of each patch, as ``DeepMask.patch_scores`` does."""
        return self.deepmask.patch_scores(patches)

    def patch_masks(self, patches: Tensor) -> Tensor:
        """Refine the window of each patch, see ``DeepMask.patch_features``: (N, window, window)."""
        # The horizontal halves get the cropped window and pad at its edges, where on a whole map
        # they get true neighbors; the original code also trains this way.
        features = self.deepmask.patch_features(patches)
        vectors = self.deepmask.vectors(features[STRIDE]).flatten(1)
        return self.refine(vectors, self.horizontals(features))


def deepmask_of(network: DeepMask | SharpMask) -> DeepMask:
    """Return the DeepMask that a SharpMask refines, or the network itself."""
    return network.deepmask if isinstance(network, SharpMask) else network
