# SPDX-License-Identifier: Apache-2.0
"""Narrow networks with random weights, and counts of parameters."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from foveate.models import build

NARROW: dict[str, dict[str, int | str]] = {
    "deepmask-resnet50": {"width": 4, "neck": 8, "vector": 24, "score_hidden": 16},
    "deepmask-vgg": {"width": 4, "neck": 8, "vector": 24, "score_hidden": 16},
    "sharpmask-resnet50": {"width": 4, "neck": 8, "vector": 24, "score_hidden": 16},
    "multipathnet-vgg16": {"width": 4, "mixed": 8, "hidden": 16},
    "fast-rcnn-vgg16": {"width": 4, "hidden": 16},
    "multipathnet-resnet18": {"width": 4},
    "multipathnet-resnet50": {"width": 4},
}

Network = TypeVar("Network", bound=nn.Module)


def narrow(kind: type[Network], name: str, **sizes: int | str) -> Network:
    """Build a network of a class in evaluation mode; those of mini have one width."""
    torch.manual_seed(0)
    network = build(name, **{**NARROW.get(name, {}), **sizes}).eval()
    assert isinstance(network, kind)
    return network


def parameters(*modules: nn.Module) -> int:
    """Count the parameters of modules."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
