# SPDX-License-Identifier: Apache-2.0
"""torchvision's ResNet and VGG as trunks: names changed, batch norm frozen, input adapted."""

from __future__ import annotations

import re
from collections import Counter

import torch
from torch import nn

from foveate.errors import ModelError
from foveate.importing.found import Found, Size, State, some_names
from foveate.models.build import BUILDERS, build
from foveate.models.deepmask import DeepMask
from foveate.models.layers import SymmetricConv2d
from foveate.models.multipathnet import MultiPathNet
from foveate.models.sharpmask import SharpMask
from foveate.models.trunk import IMAGENET, Normalisation

BATCH_NORM_EPSILON = 1e-5
"""PyTorch's default, which torchvision keeps."""

WEIGHTS = "use the weights of torchvision's model of the same name"

SEED = 0
"""Of what is not in the file."""


def find_torchvision(state: State, network: str, **sizes: Size) -> Found:
    """Build a network on the trunk of torchvision's weights; its heads stay random.

    A detector also gets what the original code takes from the same weights: ResNet's last stage, or
    VGG's fc6 and fc7 in every tower.

    Args:
        state: State dict of ``resnet18``, ``resnet50``, ``vgg11`` or ``vgg16``.
        network: A name of `models.BUILDERS` with such a trunk.
        sizes: What its builder takes beside the trunk's width: `classes` of a detector.

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
    used = {name: tensor for name, tensor in named.items() if name in expected}
    _adapt_input(used, prefix, _normalisation_of(whole), is_resnet=is_resnet)
    return Found(
        name=network,
        sizes=sizes,
        state=expected | used,
        ignored=Counter(
            name.removeprefix(prefix).partition(".")[0] for name in named if name not in expected
        ),
        notes=_notes(whole, len(expected) - len(used)),
    )


def frozen_names(state: State) -> State:
    """Rename torchvision's ResNet, and turn batch norm into scale and shift.

    scale = weight / sqrt(variance + eps), shift = bias - mean scale.

    Raises:
        ModelError: A batch norm is not complete.
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
            remedy="give a whole state dict",
        )
    return part


def _resnet_names(state: State, prefix: str) -> State:
    return {
        f"class_towers.0.{name}" if name.startswith("layer4.") else f"{prefix}{name}": tensor
        for name, tensor in frozen_names(state).items()
    }


def _vgg_names(state: State, network: nn.Module) -> State:
    named = {f"trunk.{name}": t for name, t in state.items() if name.startswith("features.")}
    for name in network.state_dict():
        tower = re.fullmatch(
            r"(?:class_towers\.\d|box_tower)\.embed\.([03]\.(?:weight|bias))", name
        )
        if tower is not None and f"classifier.{tower[1]}" in state:
            named[name] = state[f"classifier.{tower[1]}"]
    return named


def _normalisation_of(network: nn.Module) -> Normalisation:
    if isinstance(network, SharpMask):
        network = network.deepmask
    assert isinstance(network, DeepMask | MultiPathNet)
    return network.trunk.normalisation


def _adapt_input(
    state: State, prefix: str, normalisation: Normalisation, *, is_resnet: bool
) -> None:
    """Change the first convolution so that it reads what the network's trunk is given.

    torchvision's weights expect s = (v - m) / d of RGB values v. The network gives
    t = (v - M) / D, so s = t D / d + (M - m) / d: factors go into the weights, summands behind
    the convolution.
    """
    given_mean, given_std = torch.tensor(normalisation.mean), torch.tensor(normalisation.std)
    mean, std = torch.tensor(IMAGENET.mean), torch.tensor(IMAGENET.std)
    name = f"{prefix}conv1" if is_resnet else f"{prefix}features.0"
    weight = state[f"{name}.weight"]
    if normalisation.order == "bgr":
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
    if _normalisation_of(network) != IMAGENET:
        notes.append(
            "the first convolution was adapted to the network's normalisation: exact but for "
            "the padding at the image's edge"
        )
    if any(isinstance(module, SymmetricConv2d) for module in network.modules()):
        notes.append(
            "the weights were trained with zeros as padding, the network pads symmetrically: "
            "results differ near edges"
        )
    return notes
