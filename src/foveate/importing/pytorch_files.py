# SPDX-License-Identifier: Apache-2.0
"""State dicts out of PyTorch's files, without running what a pickle may hold."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from foveate.errors import ModelError
from foveate.importing.found import State
from foveate.system.files import open_regular

TENSORS_ONLY = "save its state dict again with `torch.save(model.state_dict(), path)`"

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module")
AVERAGES = ("state_dict_ema", "model_ema", "ema_model", "ema")
"""Keys under which training programs keep the state dict, or a running mean of it, beside an
optimiser's and so on; of several the first is taken."""

ROOTS = ("features", "trunk")
"""Beginnings of names that belong to the networks which are read, and are no wrapper's."""

DAMAGES = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    zipfile.BadZipFile,
)
"""What PyTorch raises for a file that is cut off or was never its own."""


def read_state(path: Path) -> State:
    """Read a state dict from a .pth or .safetensors file; which it is, its first bytes tell.

    What all names begin with is taken off: ``module.`` of `DataParallel`, ``_orig_mod.`` of
    `torch.compile`, ``model.`` of a training program, and several of these.

    Args:
        path: The file. A pickle is read with ``weights_only=True``: tensors and plain values only.

    Returns:
        Name -> tensor of at least one axis, floating-point ones in float32.

    Raises:
        ModelError: It cannot be read, would run code, or holds no state dict.
    """
    content = _open(path)
    for _ in range(4):  # wrappers in wrappers; a pickle may hold itself
        inner = (content.get(key) for key in (*WRAPPERS, *AVERAGES))
        content = next((one for one in inner if isinstance(one, Mapping)), content)
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
    prefix = _common_prefix(list(state))
    return {
        name.removeprefix(prefix): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


def _common_prefix(names: list[str]) -> str:
    """Return the whole parts that all of several names begin with, up to a root."""
    prefix = ""
    while len(names) > 1:
        first = names[0].partition(".")[0]
        if first in ROOTS or not all(name.startswith(f"{first}.") for name in names):
            break
        prefix += f"{first}."
        names = [name.removeprefix(f"{first}.") for name in names]
    return prefix


def _open(path: Path) -> Mapping[str, object]:
    try:
        with open_regular(path) as file:
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
        _refuse_torchscript(path)
        with warnings.catch_warnings(action="ignore"):  # of protocols; what fails is an error
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        newer = "Unsupported operand" in str(error)
        reason = (
            "of a newer protocol" if newer else "that names other objects, which could run code"
        )
        raise ModelError(
            f"expected tensors only, found a pickle {reason}",
            file=path,
            remedy=TENSORS_ONLY,
        ) from error
    except (safetensors.SafetensorError, *DAMAGES) as error:
        raise ModelError(
            "expected a PyTorch or safetensors file, found one that is damaged or neither "
            f"({re.split(r'[.] (?=[A-Z])|$', str(error), maxsplit=1, flags=re.MULTILINE)[0]})",
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


def _refuse_torchscript(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise ModelError(
                "expected a state dict, found a TorchScript archive, which holds code",
                file=path,
                remedy="load it with `torch.jit.load` where you trust it, and save its state dict "
                "with `torch.save(model.state_dict(), path)`",
            )
