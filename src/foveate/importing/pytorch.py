# SPDX-License-Identifier: Apache-2.0
"""Weights of PyTorch programs: the trunks of torchvision, and a port of DeepMask."""

import pickle
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from foveate.errors import ModelError
from foveate.importing.imported_weights import ImportedWeights, Size, State
from foveate.importing.torchvision import frozen_names, some_names, torchvision_weights
from foveate.plain_text import counted
from foveate.system.regular_files import open_regular

TENSORS_ONLY = "save its state dict again with `torch.save(model.state_dict(), path)`"

# Keys under which training programs save the state dict, or a running mean of it, next to the state
# of an optimizer and the like. The first of several is taken.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module")
AVERAGES = ("state_dict_ema", "model_ema", "ema_model", "ema")

# First parts of names that belong to the networks and not to a wrapper.
ROOTS = ("features", "trunk")

# Exceptions that PyTorch raises for a file that is truncated or from another program.
DAMAGES = (
    *(OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError),
    *(AttributeError, zipfile.BadZipFile),
)

# From the first parts of the names in foolwood/deepmask-pytorch to those of torchvision, or to ours
# for the heads. Its trunk is the ResNet-50 of torchvision in a Sequential.
FOOLWOOD = (
    (r"trunk\.0\.0\.1\.", "conv1."),
    (r"trunk\.0\.1\.", "bn1."),
    (r"trunk\.0\.4\.", "layer1."),
    (r"trunk\.0\.5\.", "layer2."),
    (r"trunk\.0\.6\.", "layer3."),
    (r"trunk\.1\.0\.", "neck."),
    (r"trunk\.1\.2\.", "embed."),
    (r"maskBranch(?:DM)?\.(?:0\.)?0\.", "mask."),
    (r"scoreBranch\.([14])\.", r"score.\1."),
)
HEADS = ("neck", "embed", "mask", "score")
REFLECTION_NOTE = (
    "3x3 convolutions pad by reflection in the file and symmetrically here: "
    "results differ near edges"
)


def import_torch(path: Path, network: str | None = None, **sizes: Size) -> ImportedWeights:
    """Read a DeepMask of foolwood/deepmask-pytorch, or the weights of torchvision for a network.

    Args:
        path: File to read: .pth with tensors only, or .safetensors.
        network: For weights of torchvision, the network to build on them, a name of
            ``models.BUILDERS``.
        sizes: For weights of torchvision, sizes of the builder, such as ``classes``.

    Raises:
        ModelError: The file cannot be read, or has the names or shapes of another network.
    """
    state = read_state(path)
    try:
        if "trunk.0.0.1.weight" in state and "scoreBranch.1.weight" in state:
            return _foolwood_weights(state)
        if network is None:
            raise ModelError(
                "expected a DeepMask of foolwood/deepmask-pytorch, with trunk.0.0.1.weight and "
                f"scoreBranch.1.weight, found {some_names(state)}",
                remedy="for weights of torchvision, with conv1.weight or features.0.weight, name "
                "the network to build on them: --network deepmask-resnet50",
            )
        return torchvision_weights(state, network, **sizes)
    except ModelError as error:
        raise ModelError(error.what, file=path, remedy=error.remedy) from error


def read_state(path: Path) -> State:
    """Read a state dict from a .pth or .safetensors file, distinguished by the first bytes.

    Common prefixes of all names are removed: ``module.`` of ``DataParallel``, ``_orig_mod.`` of
    ``torch.compile``, ``model.`` of a training program, and several of these.

    Args:
        path: File to read. A pickle is read with ``weights_only=True``: tensors and plain values.

    Returns:
        Dense tensors with at least one axis by name, floating-point ones in float32.

    Raises:
        ModelError: The file cannot be read, could run code, or has no state dict; or a tensor is
            sparse, quantized, complex, nested, or without content.
    """
    content = _open(path)
    for _ in range(4):  # wrappers in wrappers; a pickle may contain itself
        inner = (content.get(key) for key in (*WRAPPERS, *AVERAGES))
        content = next((one for one in inner if isinstance(one, Mapping)), content)
    # Numbers, such as the count of batches of a batch norm, are not weights.
    state = {
        str(name): value
        for name, value in content.items()
        if isinstance(value, torch.Tensor) and value.dim()
    }
    if not state:
        what = f"expected a state dict, found {counted(len(content), 'value', 'values')} without tensors"
        raise ModelError(what, file=path, remedy=TENSORS_ONLY)
    prefix = _common_prefix(list(state))
    return {name.removeprefix(prefix): _dense(one, name, path) for name, one in state.items()}


def _dense(tensor: torch.Tensor, name: str, path: Path) -> torch.Tensor:
    """Return a tensor as one that NumPy can read, which sparse, quantized and meta tensors are not."""
    try:
        if tensor.is_complex():
            raise TypeError
        numbers = tensor.float() if tensor.is_floating_point() else tensor
        return torch.from_numpy(numbers.numpy(force=True))
    except (RuntimeError, TypeError) as error:
        kind = "nested" if tensor.is_nested else f"{tensor.dtype}, {tensor.layout}"
        what = f"expected dense real numbers in memory, found {name} ({kind}, on {tensor.device})"
        remedy = "save the state dict of the model on the CPU, dense and in float32"
        raise ModelError(what, file=path, remedy=remedy) from error


def _common_prefix(names: list[str]) -> str:
    """Return the whole parts with which all of several names begin, up to a root."""
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
        if start[8:] == b"{":  # a safetensors file: the length of its header, then JSON
            return safetensors.torch.load_file(path)
        if not start.startswith((b"PK", b"\x80")):  # the archive of `torch.save`, or a bare pickle
            raise EOFError(f"it begins with {start[:4]!r}")
        _refuse_torchscript(path)
        with warnings.catch_warnings(action="ignore"):  # about protocols; a failure is an error
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "that names other objects, which could run code"
        if "Unsupported operand" in str(error):
            reason = "of a newer protocol"
        raise ModelError(
            f"expected tensors only, found a pickle {reason}", file=path, remedy=TENSORS_ONLY
        ) from error
    except (safetensors.SafetensorError, *DAMAGES) as error:
        # The first sentence of PyTorch's message; the rest is a traceback or advice.
        reason = re.split(r"[.] (?=[A-Z])|$", str(error), maxsplit=1, flags=re.MULTILINE)[0]
        raise ModelError(
            "expected a PyTorch or safetensors file, found one that is damaged or neither "
            f"({reason})",
            file=path,
            remedy="download it again; for a Torch7 file use `foveate import-torch7`",
        ) from error
    if not isinstance(content, Mapping):
        what = f"expected a state dict, found a {type(content).__name__}"
        raise ModelError(what, file=path, remedy=TENSORS_ONLY)
    return content


def _refuse_torchscript(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            what = "expected a state dict, found a TorchScript archive, which holds code"
            remedy = "load it with `torch.jit.load` if you trust it, and " + TENSORS_ONLY
            raise ModelError(what, file=path, remedy=remedy)


def _foolwood_weights(state: State) -> ImportedWeights:
    """Map a DeepMask of foolwood/deepmask-pytorch, or the DeepMask in a SharpMask of it."""
    ours = {name: _foolwood_name(name) for name in state}
    renamed = {new: state[name] for name, new in ours.items() if new is not None}
    # The refinement of its SharpMask differs in size from the one here.
    ignored = Counter(name.partition(".")[0] for name, new in ours.items() if new is None)
    missing = [f"{head}.weight" for head in HEADS[:3] if f"{head}.weight" not in renamed]
    if missing:
        what = f"expected trunk, maskBranch and scoreBranch of a DeepMask, found no {missing[0]}"
        raise ModelError(what, remedy="import the state dict of a whole DeepMask")
    mask = renamed["mask.weight"]
    renamed["mask.weight"] = mask[:, :, 0, 0] if mask.dim() == 4 else mask
    named = {
        name if name.startswith(HEADS) else f"trunk.{name}": tensor
        for name, tensor in frozen_names(renamed).items()
    }
    return ImportedWeights(
        name="deepmask-resnet50",
        sizes={
            "width": named["trunk.conv1.weight"].shape[0],
            "neck": named["neck.weight"].shape[0],
            "vector": named["embed.weight"].shape[0],
            "score_hidden": named["score.1.weight"].shape[0],
        },
        state=named,
        ignored=ignored,
        notes=[REFLECTION_NOTE],
    )


def _foolwood_name(name: str) -> str | None:
    for pattern, replacement in FOOLWOOD:
        ours, hits = re.subn(f"^{pattern}", replacement, name)
        if hits:
            # A padding module is in front of each convolution that pads.
            return re.sub(r"\bconv2\.1\.", "conv2.", ours)
    return None
