# SPDX-License-Identifier: Apache-2.0
"""State dicts out of PyTorch's files, without running what a pickle may hold."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from foveate.errors import ModelError
from foveate.importing.found import State

TENSORS_ONLY = "save its state dict again with `torch.save(model.state_dict(), path)`"

WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which training programs keep the state dict, beside an optimiser's and so on."""

DAMAGES = (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError)
"""What PyTorch raises for a file that is cut off or was never its own."""


def read_state(path: Path) -> State:
    """Read a state dict from a .pth or .safetensors file; which it is, its first bytes tell.

    A prefix ``module.`` of all names, of a model in `DataParallel`, is taken off.

    Args:
        path: The file. A pickle is read with ``weights_only=True``: tensors and plain values only.

    Returns:
        Name -> tensor of at least one axis, floating-point ones in float32.

    Raises:
        ModelError: It cannot be read, would run code, or holds no state dict.
    """
    content = _open(path)
    for key in WRAPPERS:
        inner = content.get(key)
        if isinstance(inner, Mapping):
            content = inner
            break
    # Numbers, such as the count of batches that a batch norm saw, are no weights.
    state = {
        str(name): value
        for name, value in content.items()
        if isinstance(value, torch.Tensor) and value.dim()
    }
    if not state:
        raise ModelError(
            f"expected a state dict, found {len(content)} values without tensors",
            file=path,
            remedy=TENSORS_ONLY,
        )
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


def _open(path: Path) -> Mapping[str, object]:
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise ModelError(
            f"the file cannot be read ({error.strerror})", file=path, remedy="check its name"
        ) from error
    try:
        if start[8:] == b"{":  # a safetensors file: its header's length, then JSON
            return safetensors.torch.load_file(path)
        if not start.startswith((b"PK", b"\x80")):  # the archive of `torch.save`, or a bare pickle
            raise EOFError(f"it begins with {start[:4]!r}")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            "expected tensors only, found a pickle that names other objects, which could run code",
            file=path,
            remedy=TENSORS_ONLY,
        ) from error
    except (safetensors.SafetensorError, *DAMAGES) as error:
        raise ModelError(
            f"expected a PyTorch or safetensors file, found one that is damaged or neither ({error})",
            file=path,
            remedy="get it again; for a Torch7 file use `foveate import-torch7`",
        ) from error
    if not isinstance(content, Mapping):
        raise ModelError(
            f"expected a state dict, found a {type(content).__name__}",
            file=path,
            remedy=TENSORS_ONLY,
        )
    return content
