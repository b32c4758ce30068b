# SPDX-License-Identifier: Apache-2.0
"""SharpMask: sharpen DeepMask's masks with the trunk's finer features, coarse to fine.

Pinheiro, Lin, Collobert & Dollar, "Learning to Refine Object Segments" (ECCV 2016), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from foveate.models.deepmask import STRIDE, DeepMask
from foveate.models.refinement import Form, Refinement
from foveate.models.symmetric_padding import Padding, convolution

SKIP_STRIDES = (16, 8, 4, 2)
"""Strides of the skip features, one refinement module each, in the order of refinement."""


class SharpMask(nn.Module):
    """A DeepMask, kept frozen, and the top-down path that refines its masks.

    Args:
        deepmask: the proposal network.
        reduced_channels: of each module, what its horizontal half reduces the skip features to.
        encoding_channels: channels of the mask encoding before and behind the four modules.
        form: see `Refinement`.
        padding: of all convolutions of the refinement.
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
        vector = deepmask.embed.out_channels
        self.encode = nn.Linear(vector, encoding_channels[0] * self.cells**2)
        self.refinements = nn.ModuleList(
            Refinement(
                skip_channels=deepmask.trunk.channels[stride],
                reduced_channels=reduced_channels[i],
                inputs=encoding_channels[i],
                outputs=encoding_channels[i + 1],
                form=form,
                padding=padding,
            )
            for i, stride in enumerate(SKIP_STRIDES)
        )
        self.mask = convolution(encoding_channels[-1], 1, 3, padding=padding)

    @property
    def coarse_to_fine(self) -> list[Refinement]:
        """The refinement modules in the order of `SKIP_STRIDES`."""
        return [module for module in self.refinements if isinstance(module, Refinement)]

    def horizontals(self, features: dict[int, Tensor]) -> list[Tensor]:
        """Run the horizontal halves over whole maps.

        Args:
            features: stride -> (N, C, H, W) trunk features.

        Returns:
            Four maps (N, outputs, H, W) at strides 16, 8, 4 and 2.
        """
        return [
            module.horizontal(features[stride])
            for module, stride in zip(self.coarse_to_fine, SKIP_STRIDES, strict=True)
        ]

    def refine(self, vectors: Tensor, horizontals: Sequence[Tensor]) -> Tensor:
        """Decode windows to masks.

        Args:
            vectors: (K, vector) window vectors of DeepMask.
            horizontals: four windows (K, outputs, S, S) of the horizontal maps, S = 10, 20, 40, 80
                for a window of 160 px.

        Returns:
            (K, window, window) mask logits over the window.
        """
        channels = self.encode.out_features // self.cells**2
        encoding: Tensor = self.encode(vectors).reshape(-1, channels, self.cells, self.cells)
        for module, horizontal in zip(self.coarse_to_fine, horizontals, strict=True):
            encoding = module(encoding, horizontal)
        logits: Tensor = self.mask(encoding)
        return logits.squeeze(1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Score every window of an image and prepare its refinement.

        Args:
            image: as `DeepMask.forward` takes it.

        Returns:
            Score logits and vectors as `DeepMask.forward` gives them, and the four horizontal maps.
        """
        features = self.deepmask.trunk(image)
        scores, vectors = self.deepmask.windows(features[STRIDE])
        return scores, vectors, self.horizontals(features)

    def patch_scores(self, patches: Tensor) -> Tensor:
        """Score the window of each patch, as `DeepMask.patch_scores`."""
        return self.deepmask.patch_scores(patches)

    def patch_masks(self, patches: Tensor) -> Tensor:
        """Refine the window of each patch.

        The horizontal halves see the window alone and pad at its edges, where on a whole level
        they see true neighbours; the release trains so.

        Args:
            patches: as `DeepMask.patch_features` takes them.

        Returns:
            (N, window, window) mask logits.
        """
        features = self.deepmask.patch_features(patches)
        vectors = self.deepmask.vectors(features[STRIDE]).flatten(1)
        return self.refine(vectors, self.horizontals(features))
