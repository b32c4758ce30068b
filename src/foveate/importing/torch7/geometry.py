# SPDX-License-Identifier: Apache-2.0
"""Whether layers of a Torch7 file have the geometry of the network that they are imported into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from foveate.errors import ModelError
from foveate.importing.torch7.layers import Layer

CLASSES = {"zeros": "SpatialZeroPadding", "symmetric": "SpatialSymmetricPadding"}


def padding_notes(
    convolutions: Sequence[Layer], expected: Literal["zeros", "symmetric"]
) -> list[str]:
    """Compare the padding of convolutions with the network's.

    Args:
        convolutions: Of any side.
        expected: What the network here does.

    Returns:
        A sentence if some pad in another way: their weights can be used, and results differ near
        edges.

    Raises:
        ModelError: One pads by another amount, so that all maps would be shifted.
    """
    other: dict[str, int] = {}
    for conv in convolutions:
        half = conv.whole("kW") // 2
        if conv.pad != half:
            raise ModelError(
                f"expected {half} pixels of padding in front of {conv.name}, found {conv.pad}",
                remedy="import a network of the original code",
            )
        # One row of padding is the edge repeated, in either class.
        same = conv.padding == CLASSES[expected] or (
            expected == "symmetric" and half == 1 and conv.padding == "SpatialReplicationPadding"
        )
        if half and not same:
            other[conv.padding] = other.get(conv.padding, 0) + 1
    return [
        f"{count} convolutions pad by {name} in the file and by {expected} here: "
        "results differ near edges"
        for name, count in other.items()
    ]


def expect_pooling(layer: Layer, *, side: int, stride: int, pad: int) -> None:
    """Check the geometry of a max pooling.

    Raises:
        ModelError: It is another.
    """
    found = (layer.whole("kW"), layer.whole("dW"), layer.whole("padW", 0))
    if found != (side, stride, pad):
        raise ModelError(
            f"expected a pooling of side {side}, stride {stride} and padding {pad} in "
            f"{layer.name}, found {found[0]}, {found[1]} and {found[2]}",
            remedy="import a network of the original code",
        )
