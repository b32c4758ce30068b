# SPDX-License-Identifier: Apache-2.0
"""The ResNet and VGG of torchvision as trunks: names changed, batch norm frozen, input adapted."""

import re
from collections import Counter

import torch
from torch import nn

from foveate.errors import ModelError
from foveate.importing.imported_weights import ImportedWeights, Size, State
from foveate.models.build import BUILDERS, build
from foveate.models.deepmask import DeepMask
from foveate.models.layers import SymmetricConv2d
from foveate.models.multipathnet import MultiPathNet
from foveate.models.sharpmask import SharpMask, deepmask_of
from foveate.models.trunk import IMAGENET, Normalization

# The default of PyTorch, which torchvision keeps.
BATCH_NORM_EPSILON = 1e-5

WEIGHTS = "use the weights of the model of torchvision of the same name"

# Weights that are not in the file are drawn with this seed.
SEED = 0

_STAGE = re.compile(r".*\blayer\d\.")


def torchvision_weights(state: State, network: str, **sizes: Size) -> ImportedWeights:
    """Put the weights of torchvision into the trunk of a network, whose heads stay random.

    Args:
        state: State dict of ``resnet18``, ``resnet50``, ``vgg11`` or ``vgg16``.
        network: Name of ``models.BUILDERS`` of a network with such a trunk.
        sizes: Sizes of the builder, except for the width of the trunk.

    Raises:
        ModelError: There is no such network, or the weights are of another trunk.
    """
    first = next((key for key in ("conv1.weight", "features.0.weight") if key in state), None)
    if first is None or "mini" in network or network not in BUILDERS:
        known = ", ".join(sorted(name for name in BUILDERS if "mini" not in name))
        raise ModelError(
            "expected a network on a ResNet or VGG and its trunk's weights, with conv1.weight or "
            f"features.0.weight, found {network!r} and {some_names(state)}",
            remedy=f"use one of {known}, and {WEIGHTS}",
        )
    is_resnet = first == "conv1.weight"
    sizes = {"width": len(state[first]), **sizes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        whole = build(network, **sizes)
    prefix = "deepmask.trunk." if isinstance(whole, SharpMask) else "trunk."
    named = _resnet_names(state, prefix) if is_resnet else _vgg_names(state, whole)
    expected = whole.state_dict()
    wanted = {name for name in expected if name.startswith(prefix) or "layer4" in name}
    for name in sorted(wanted):
        if name not in named or named[name].shape != expected[name].shape:
            found = tuple(named[name].shape) if name in named else "none"
            raise ModelError(
                f"expected {name} of shape {tuple(expected[name].shape)} for {network}, "
                f"found {found} in {some_names(state)}",
                remedy=WEIGHTS,
            )
    if more := _superfluous_weight(named, expected):
        what = f"expected the trunk of {network}, found another one with {more}"
        raise ModelError(what, remedy=WEIGHTS)
    used = {name: tensor for name, tensor in named.items() if name in expected}
    _adapt_input(used, prefix, _normalization_of(whole), is_resnet=is_resnet)
    return ImportedWeights(
        name=network,
        sizes=sizes,
        state=expected | used,
        ignored=Counter(
            name.removeprefix(prefix).partition(".")[0] for name in named if name not in expected
        ),
        notes=_notes(whole, len(expected) - len(used)),
    )


def _superfluous_weight(named: State, expected: State) -> str | None:
    """Return a weight that a stage of the network does not have, if there is one."""
    # The first blocks of a ResNet-101 have the shapes of a ResNet-50, but mean nothing without the
    # others.
    stages = {found[0] for name in expected if (found := _STAGE.match(name))}
    others = (name for name in named if name not in expected)
    return next((n for n in others if (found := _STAGE.match(n)) and found[0] in stages), None)


def some_names(state: State) -> str:
    """Return the number of tensors of a state dict and its first names, for error messages."""
    more = ", ..." if len(state) > 3 else ""
    return f"{len(state)} tensors such as {', '.join(list(state)[:3])}{more}"


def frozen_names(state: State) -> State:
    """Rename a ResNet of torchvision, and turn batch norm into scale and shift.

    scale = weight / sqrt(variance + eps), shift = bias - mean scale.
    """
    renamed: State = {}
    for name, tensor in state.items():
        base, _, last = name.rpartition(".")
        ours = re.sub(r"\bbn(\d)", r"affine\1", base).replace("downsample", "shortcut")
        if f"{base}.running_mean" not in state:
            renamed[f"{ours}.{last}"] = tensor
        elif last == "running_mean":
            parts = [state.get(f"{base}.{part}") for part in ("weight", "bias", "running_var")]
            weight, bias, variance = (_same_shape(part, tensor, base) for part in parts)
            scale = weight * torch.rsqrt(variance + BATCH_NORM_EPSILON)
            renamed[f"{ours}.scale"], renamed[f"{ours}.shift"] = scale, bias - tensor * scale
    return renamed


def _same_shape(part: torch.Tensor | None, mean: torch.Tensor, name: str) -> torch.Tensor:
    if part is None or part.shape != mean.shape:
        raise ModelError(
            f"expected weight, bias and variance of {tuple(mean.shape)} in the batch norm {name}, "
            f"found {'nothing' if part is None else tuple(part.shape)}",
            remedy="pass the whole state dict",
        )
    return part


def _resnet_names(state: State, prefix: str) -> State:
    # As in the original code, the tower of a detector starts with the last stage.
    return {
        f"class_towers.0.{name}" if name.startswith("layer4.") else f"{prefix}{name}": tensor
        for name, tensor in frozen_names(state).items()
    }


def _vgg_names(state: State, network: nn.Module) -> State:
    named = {f"trunk.{name}": t for name, t in state.items() if name.startswith("features.")}
    # As in the original code, each tower of a detector starts with fc6 and fc7.
    for name in network.state_dict():
        tower = re.fullmatch(r"(class_towers\.\d|box_tower)\.embed\.([03]\.(weight|bias))", name)
        if tower is not None and f"classifier.{tower[2]}" in state:
            named[name] = state[f"classifier.{tower[2]}"]
    return named


def _normalization_of(network: nn.Module) -> Normalization:
    if isinstance(network, MultiPathNet):
        return network.own_trunk.normalization
    assert isinstance(network, DeepMask | SharpMask)
    return deepmask_of(network).trunk.normalization


def _adapt_input(
    state: State, prefix: str, normalization: Normalization, *, is_resnet: bool
) -> None:
    """Adapt the first convolution to the normalization of the network.

    The weights of torchvision expect s = (v - m) / d of RGB values v. The network gives
    t = (v - M) / D, hence s = t D / d + (M - m) / d: factors go into the weights, summands into the
    bias or shift.
    """
    given_mean, given_std = torch.tensor(normalization.mean), torch.tensor(normalization.std)
    mean, std = torch.tensor(IMAGENET.mean), torch.tensor(IMAGENET.std)
    name = f"{prefix}conv1" if is_resnet else f"{prefix}features.0"
    weight = state[f"{name}.weight"]
    if normalization.order == "bgr":
        weight, mean, std = weight.flip(1), mean.flip(0), std.flip(0)
    summand = torch.einsum("oihw,i->o", weight, (given_mean - mean) / std)
    state[f"{name}.weight"] = weight * (given_std / std)[None, :, None, None]
    if is_resnet:
        scale = state[f"{prefix}affine1.scale"]
        state[f"{prefix}affine1.shift"] = state[f"{prefix}affine1.shift"] + scale * summand
    else:
        state[f"{name}.bias"] = state[f"{name}.bias"] + summand


def _notes(network: nn.Module, random: int) -> list[str]:
    notes = [f"{random} tensors are not in the file and random: train the network"]
    if _normalization_of(network) != IMAGENET:
        notes.append(
            "the first convolution was adapted to the normalization of the network: exact except "
            "for the padding at the edge of the image"
        )
    if any(isinstance(module, SymmetricConv2d) for module in network.modules()):
        notes.append(
            "the weights were trained with padding by zeros, the network pads symmetrically: "
            "results differ near edges"
        )
    return notes
