# SPDX-License-Identifier: Apache-2.0
"""Weights of Torch7 layers as PyTorch tensors: shapes checked, batch norm and biases folded."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from foveate.errors import ModelError
from foveate.importing.torch7.layers import Layer
from foveate.importing.torch7.values import Storage, Tensor, describe

State = dict[str, torch.Tensor]

DAMAGED = "the file is damaged: get it again"


class Convolution(NamedTuple):
    """A convolution and what is behind it: scale * (weight applied) + shift, channel by channel."""

    weight: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor


class Weights:
    """Copy weights out of a file, and count them.

    A file may let many layers share one storage; what is copied altogether may not be more than
    the storages hold, so that a small file never becomes a large network.

    Attributes:
        count: Elements copied so far.
        used: Identities of the modules that they came from.
    """

    def __init__(self) -> None:
        self.count = 0
        self.used: set[int] = set()
        self._storages: dict[int, Storage] = {}

    def field(self, layer: Layer, name: str) -> torch.Tensor | None:
        """Copy a field of a layer to float32, None if the layer has none.

        Raises:
            ModelError: It is no tensor, has values that are not finite, or is used too often.
        """
        value = layer.node[name]
        if value is None:
            return None
        if not isinstance(value, Tensor):
            raise ModelError(
                f"expected a tensor in {name} of {layer.name}, found {describe(value)}",
                remedy=DAMAGED,
            )
        if value.storage is None or not value.size:
            return None
        self.used.add(id(layer.node))
        self.count += value.size
        self._storages[id(value.storage)] = value.storage
        held = sum(len(storage.values) for storage in self._storages.values())
        if self.count > held:
            raise ModelError(
                f"expected a storage for every weight, found {name} of {layer.name} in one that "
                "other layers use",
                remedy=DAMAGED,
            )
        copy = np.array(value.view(), np.float32, order="C")
        if not np.isfinite(copy).all():
            raise ModelError(
                f"expected finite numbers in {name} of {layer.name}, found NaN or infinity",
                remedy=DAMAGED,
            )
        return torch.from_numpy(copy)

    def needed(self, layer: Layer, name: str) -> torch.Tensor:
        """Copy a field that a layer of its class must have."""
        value = self.field(layer, name)
        if value is None:
            raise ModelError(f"expected {name} in {layer.name}, found none", remedy=DAMAGED)
        return value

    def linear(self, layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy (outputs, inputs) weight and (outputs,) bias; a convolution's is flattened."""
        weight = self.needed(layer, "weight")
        weight = weight.reshape(len(weight), -1)
        return weight, self._bias(layer, len(weight))

    def convolution(self, layer: Layer) -> torch.Tensor:
        """Copy (outputs, inputs, height, width) weight, which old classes keep in two axes."""
        weight = self.needed(layer, "weight")
        side_y, side_x = layer.whole("kH"), layer.whole("kW")
        inputs, groups = layer.whole("nInputPlane"), layer.whole("groups", 1)
        outputs = len(weight)
        sizes = (inputs, side_y, side_x)
        if groups != 1 or min(sizes) < 1 or weight[0].numel() != math.prod(sizes):
            raise ModelError(
                f"expected weights for {inputs} channels and {side_y}x{side_x} pixels in one group "
                f"in {layer.name}, found shape {tuple(weight.shape)} and {groups} groups",
                remedy=DAMAGED,
            )
        return weight.reshape(outputs, *sizes)

    def biased(self, layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy weight and bias of a convolution; the bias is zero if it has none."""
        weight = self.convolution(layer)
        return weight, self._bias(layer, len(weight))

    def folded(self, layer: Layer, affine: Layer | None) -> Convolution:
        """Copy a convolution and the affine map or batch norm behind it; its bias joins the shift.

        a (W x + c) + b = a W x + (b + a c).
        """
        weight, bias = self.biased(layer)
        if affine is None:
            return Convolution(weight, torch.ones(len(weight)), bias)
        scale, shift = self.affine(affine, len(weight))
        return Convolution(weight, scale, shift + scale * bias)

    def affine(self, layer: Layer, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy a map y = scale x + shift, two tensors of (channels,).

        The old class keeps its numbers in shape (1, channels, 1, 1). Batch norm becomes
        scale = weight / sqrt(variance + eps), shift = bias - mean scale.
        """
        if layer.node["a"] is not None:
            return self._channels(layer, "a", channels), self._channels(layer, "b", channels)
        # Before 2016, batch norm kept 1 / sqrt(variance + eps) under the name running_std.
        if layer.node["running_std"] is not None:
            inverse = self._channels(layer, "running_std", channels)
        else:
            epsilon = layer.node["eps"]
            variance = self._channels(layer, "running_var", channels)
            inverse = torch.rsqrt(variance + (epsilon if isinstance(epsilon, float) else 1e-5))
        mean = self._channels(layer, "running_mean", channels)
        has_weight = layer.node["weight"] is not None
        scale = inverse * self._channels(layer, "weight", channels) if has_weight else inverse
        return scale, self._bias(layer, channels) - mean * scale

    def _channels(self, layer: Layer, name: str, channels: int) -> torch.Tensor:
        values = self.needed(layer, name).flatten()
        if len(values) != channels:
            raise ModelError(
                f"expected {channels} values in {name} of {layer.name}, found {len(values)}",
                remedy=DAMAGED,
            )
        return values

    def _bias(self, layer: Layer, outputs: int) -> torch.Tensor:
        bias = self.field(layer, "bias")
        if bias is None:
            return torch.zeros(outputs)
        if bias.shape != (outputs,):
            raise ModelError(
                f"expected {outputs} biases in {layer.name}, found shape {tuple(bias.shape)}",
                remedy=DAMAGED,
            )
        return bias
