# SPDX-License-Identifier: Apache-2.0
"""Weights of PyTorch programs: torchvision's trunks, and a port of DeepMask."""

from __future__ import annotations

from pathlib import Path

from foveate.errors import ModelError
from foveate.importing.foolwood import find_foolwood, is_foolwood
from foveate.importing.found import Found, Size, some_names
from foveate.importing.pytorch_files import read_state
from foveate.importing.torchvision_trunks import find_torchvision


def import_torch(path: Path, network: str | None = None, **sizes: Size) -> Found:
    """Read a DeepMask of foolwood/deepmask-pytorch, or make a network on torchvision's weights.

    Args:
        path: A .pth file with tensors only, or a .safetensors file.
        network: For torchvision's weights, what to build on them: a name of `models.BUILDERS`.
        sizes: For torchvision's weights, what its builder takes, such as `classes`.

    Raises:
        ModelError: It cannot be read, or its names and shapes are of something else.
    """
    state = read_state(path)
    try:
        if is_foolwood(state):
            return find_foolwood(state)
        if network is None:
            raise ModelError(
                "expected a DeepMask of foolwood/deepmask-pytorch, with trunk.0.0.1.weight and "
                f"scoreBranch.1.weight, found {some_names(state)}",
                remedy="for torchvision's weights, with conv1.weight or features.0.weight, say "
                "which network to build on them: --network deepmask-resnet50",
            )
        return find_torchvision(state, network, **sizes)
    except ModelError as error:
        raise ModelError(error.what, file=path, remedy=error.remedy) from error
