# SPDX-License-Identifier: Apache-2.0
"""Weights of Torch7 layers as PyTorch tensors: shapes checked, batch norm and biases folded."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from foveate.importing.imported_weights import State
from foveate.importing.torch7.layers import Layer
from foveate.importing.torch7.values import Storage, Tensor, damaged, describe


class Convolution(NamedTuple):
    """A convolution and the affine map after it: scale * (weight applied) + shift per channel."""

    weight: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor


class WeightReader:
    """A reader that copies weights from a file.

    Attributes:
        used: Identities of the modules whose weights were copied.
    """

    def __init__(self) -> None:
        self.used: set[int] = set()
        self._count = 0
        self._storages: dict[int, Storage] = {}

    def optional(self, layer: Layer, name: str) -> torch.Tensor | None:
        """Copy a field of a layer to float32, or return ``None`` if the layer does not have it.

        Raises:
            ModelError: It is not a tensor, has values that are not finite, or shares a storage with
                too many others.
        """
        value = layer.node[name]
        if value is None:
            return None
        if not isinstance(value, Tensor):
            raise damaged(f"a tensor in {name} of {layer.name}", describe(value))
        if value.storage is None or not value.size:
            return None
        self.used.add(id(layer.node))
        # Layers may share a storage, as after ``getParameters``. All copies together may not have
        # more elements than the storages, so that a small file never becomes a large network.
        self._count += value.size
        self._storages[id(value.storage)] = value.storage
        if self._count > sum(len(storage.values) for storage in self._storages.values()):
            raise damaged(
                "a storage for every weight", f"{name} of {layer.name} in one that other layers use"
            )
        copy = np.array(value.view(), np.float32, order="C")
        if not np.isfinite(copy).all():
            raise damaged(f"finite numbers in {name} of {layer.name}", "NaN or infinity")
        return torch.from_numpy(copy)

    def required(self, layer: Layer, name: str) -> torch.Tensor:
        """Copy a field that a layer of its class must have."""
        value = self.optional(layer, name)
        if value is None:
            raise damaged(f"{name} in {layer.name}", "none")
        return value

    def linear(self, layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy weight (outputs, inputs) and bias (outputs,); that of a convolution is flattened."""
        weight = self.required(layer, "weight")
        weight = weight.reshape(len(weight), -1)
        return weight, self._bias(layer, len(weight))

    def convolution(self, layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy weight (outputs, inputs, height, width) and bias (outputs,), zeros if absent."""
        weight = self.required(layer, "weight")
        groups = layer.whole("groups", 1)
        inputs, height, width = (layer.whole(name) for name in ("nInputPlane", "kH", "kW"))
        sizes = (inputs, height, width)
        if groups != 1 or min(sizes) < 1 or weight[0].numel() != math.prod(sizes):
            raise damaged(
                f"weights for {inputs} channels and {height}x{width} pixels in one group in "
                f"{layer.name}",
                f"shape {tuple(weight.shape)} and {groups} groups",
            )
        # Old classes keep them in two axes.
        return weight.reshape(-1, *sizes), self._bias(layer, len(weight))

    def linears(self, layers: Mapping[str, Layer]) -> State:
        """Return the state of linear layers by name."""
        return _state({name: self.linear(layer) for name, layer in layers.items()})

    def convolutions(self, layers: Mapping[str, Layer]) -> State:
        """Return the state of convolutions by name."""
        return _state({name: self.convolution(layer) for name, layer in layers.items()})

    def folded(self, layer: Layer, affine: Layer | None) -> Convolution:
        """Copy a convolution and the affine map or batch norm after it, with its bias folded in.

        a (W x + c) + b = a W x + (b + a c).
        """
        weight, bias = self.convolution(layer)
        if affine is None:
            return Convolution(weight, torch.ones(len(weight)), bias)
        scale, shift = self.affine(affine, len(weight))
        return Convolution(weight, scale, shift + scale * bias)

    def affine(self, layer: Layer, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy scale and shift (channels,) of the map y = scale x + shift.

        Batch norm becomes scale = weight / sqrt(variance + eps), shift = bias - mean scale.
        """
        if layer.node["a"] is not None:
            return self._channels(layer, "a", channels), self._channels(layer, "b", channels)
        # Before 2016, batch norm had 1 / sqrt(variance + eps) under the name running_std.
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
        # SpatialConstDiagonal, the oldest class, has the shape (1, channels, 1, 1).
        values = self.required(layer, name).flatten()
        if len(values) != channels:
            raise damaged(f"{channels} values in {name} of {layer.name}", len(values))
        return values

    def _bias(self, layer: Layer, outputs: int) -> torch.Tensor:
        bias = self.optional(layer, "bias")
        if bias is None:
            return torch.zeros(outputs)
        if bias.shape != (outputs,):
            raise damaged(f"{outputs} biases in {layer.name}", f"shape {tuple(bias.shape)}")
        return bias


def _state(pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> State:
    ends = ("weight", "bias")
    return {f"{name}.{end}": pair[i] for name, pair in pairs.items() for i, end in enumerate(ends)}
