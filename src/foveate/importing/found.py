# SPDX-License-Identifier: Apache-2.0
"""What an importer found in a file, and the network that is built of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from foveate.errors import ModelError
from foveate.models.build import build

Size = int | str
State = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A network in a file.

    Attributes:
        name: The network, for `models.build`.
        sizes: What its builder takes, for what the file holds.
        state: All its weights.
        ignored: Parts of the file that were left out, and how many of each.
        notes: What a user should know, one sentence each.
        delta_mean: Of normalised box targets, for a detector whose file has it.
        delta_std: The same.
    """

    name: str
    sizes: Mapping[str, Size]
    state: State
    ignored: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    delta_mean: tuple[float, ...] | None = None
    delta_std: tuple[float, ...] | None = None

    def build(self) -> nn.Module:
        """Build the network with the weights that were found, in evaluation mode.

        Raises:
            ModelError: The weights are not all that it has, of other shapes, or not finite.
        """
        # On the meta device, so that sizes out of a damaged file allocate nothing.
        try:
            with torch.device("meta"):
                network = build(self.name, **self.sizes)
        except RuntimeError as error:
            raise ModelError(
                f"expected sizes of a {self.name}, found {self.sizes}",
                remedy="the file is damaged: get it again",
            ) from error
        expected = network.state_dict()
        for key in {**expected, **self.state}:
            shapes = [
                tuple(state[key].shape) if key in state else None
                for state in (expected, self.state)
            ]
            if shapes[0] == shapes[1] and not self.state[key].isfinite().all():
                raise ModelError(
                    f"expected finite numbers in {key}, found NaN or infinity",
                    remedy="the file is damaged: get it again",
                )
            if shapes[0] != shapes[1]:
                raise ModelError(
                    f"expected {key} of shape {shapes[0]} in a {self.name}, found {shapes[1]}",
                    remedy="import a network of the sizes that its builder can make",
                )
        network.load_state_dict(self.state, assign=True)
        return network.eval()


def some_names(state: State) -> str:
    """Say how many tensors a state dict has, and the first names."""
    more = ", ..." if len(state) > 3 else ""
    return f"{len(state)} tensors such as {', '.join(list(state)[:3])}{more}"


def count_parameters(network: nn.Module) -> int:
    """Count what training could change: frozen affine maps are buffers and not among them."""
    return sum(parameter.numel() for parameter in network.parameters())
