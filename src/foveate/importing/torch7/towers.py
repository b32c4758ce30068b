# SPDX-License-Identifier: Apache-2.0
"""The towers of MultiPathNet and Fast R-CNN on VGG-16 out of a Torch7 file."""

from __future__ import annotations

import math
from collections.abc import Sequence

from foveate.errors import ModelError
from foveate.importing.found import State
from foveate.importing.torch7.layers import Layer, every, signature
from foveate.importing.torch7.values import Value
from foveate.importing.torch7.weights import Weights
from foveate.models.build_classifiers import BOX_REGION, FOVEA
from foveate.models.towers import L2_SCALE, SKIP_FACTORS

DETECTOR = "import a MultiPathNet or Fast R-CNN of the original code"

FACTORS = (1.0, *SKIP_FACTORS.values())
"""What conv5, conv4 and conv3 are multiplied by where they are not normalised."""


def foveal_towers(forks: Sequence[Layer], weights: Weights) -> tuple[State, dict[str, int | str]]:
    """Copy the towers of a fork: those of the four regions that classify, and perhaps one for boxes.

    Args:
        forks: All forks with weights between trunk and heads; there must be one.
        weights: Copies weights.

    Returns:
        The state, and the sizes of `multipathnet_vgg16` that follow from it.

    Raises:
        ModelError: There are other towers than those of the original code.
    """
    counts = [len(fork.branches) for fork in forks]
    if counts not in ([len(FOVEA)], [len(FOVEA) + 1]):
        raise ModelError(
            f"expected {len(FOVEA)} or {len(FOVEA) + 1} towers, found {counts}",
            remedy="only the four regions of the original code can be built",
        )
    prefixes = [*(f"class_towers.{index}." for index in range(len(FOVEA))), "box_tower."]
    maps = [count for _, count in (*FOVEA, BOX_REGION)]
    state: State = {}
    normalised = set()
    # Without a box tower there is a prefix too many.
    for prefix, tower, count in zip(prefixes, forks[0].branches, maps, strict=False):
        state |= tower_state(prefix, tower, weights, mixed=True)
        normalised.add(_is_normalised(tower, count, prefix[:-1]))
    if len(normalised) > 1:
        raise ModelError(
            "expected maps that are normalised in all towers or in none, found both",
            remedy=DETECTOR,
        )
    return state, {
        "mixed": len(state["class_towers.0.mix.bias"]),
        "hidden": len(state["class_towers.0.embed.3.bias"]),
        "box_tower": counts != [len(FOVEA)],
        "normalised": normalised.pop(),
    }


def tower_state(prefix: str, tower: Sequence[Layer], weights: Weights, *, mixed: bool) -> State:
    """Copy fc6 and fc7 of a tower and, where maps are mixed, the 1x1 convolution before them."""
    layers = [layer for layer in tower if layer.kind in ("conv", "linear", "relu")]
    expected = "conv linear relu linear relu" if mixed else "linear relu linear relu"
    if signature(layers) != expected:
        raise ModelError(
            f"expected the layers {expected!r} of a tower, found {signature(tower)!r}",
            remedy=DETECTOR,
        )
    state: State = {}
    if mixed:
        state[f"{prefix}mix.weight"], state[f"{prefix}mix.bias"] = weights.biased(layers.pop(0))
    first, _, second, _ = layers
    for position, layer in ((0, first), (3, second)):
        name = f"{prefix}embed.{position}"
        state[f"{name}.weight"], state[f"{name}.bias"] = weights.linear(layer)
    return state


def _is_normalised(tower: Sequence[Layer], maps: int, name: str) -> bool:
    """Whether the maps of a tower are L2-normalised, or only divided (`model_conv345_norm`)."""
    norms = len(every(tower, "normalise"))
    factors = [layer.node["constant_scalar"] for layer in every(tower, "times")]
    if norms == maps and _are(factors, [L2_SCALE]):
        return True
    if norms == 0 and _are(factors, FACTORS[:maps]):
        return False
    raise ModelError(
        f"expected in {name} {maps} normalised maps times 1000, or maps times 1, 1/30 and 1/200, "
        f"found {norms} normalisations and factors {factors}",
        remedy=DETECTOR,
    )


def _are(values: Sequence[Value], expected: Sequence[float]) -> bool:
    """Whether values are these numbers, up to the rounding of a float32."""
    return len(values) == len(expected) and all(
        isinstance(value, (int, float)) and math.isclose(value, number, rel_tol=1e-6)
        for value, number in zip(values, expected, strict=True)
    )
