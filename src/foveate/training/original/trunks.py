# SPDX-License-Identifier: Apache-2.0
"""Weights of a trunk of timm at the start of training, and the record of their origin."""

import hashlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from foveate.errors import ModelError
from foveate.importing.pytorch import read_state
from foveate.models.timm_trunk import PREFIX, TimmTrunk
from foveate.models.trunk import Trunk
from foveate.system.regular_files import file_digest

PRETRAINED, RANDOM = "pretrained", "random"


def start_trunk(
    trunk: Trunk, weights: str | None, notes: Mapping[str, Any], part: str
) -> dict[str, Any]:
    """Load weights into a trunk of timm, in place, and return a note on them for the checkpoint.

    Args:
        trunk: Trunk with random weights, or with those of a checkpoint.
        weights: ``pretrained`` for those that timm fetches, ``random`` for those that the trunk
            has, or the path of a state dict of the whole model: .safetensors, or .pth with tensors
            only. ``None`` if the trunk is not of timm, or a checkpoint has its weights.
        notes: Notes of that checkpoint.
        part: ``proposals`` or ``classifier``, whose trunk it is.

    Returns:
        As ``trunks``, by ``part``, the name of the trunk, the version of timm, and the origin of the
        weights with the SHA-256 of their file, or of the tensors if timm fetched them.

    Raises:
        ModelError: The weights cannot be fetched or read, or are of another model.
    """
    if weights is None:
        return {"trunks": notes["trunks"]} if "trunks" in notes else {}
    assert isinstance(trunk, TimmTrunk)
    record = {"name": f"{PREFIX}{trunk.name}", "timm": metadata.version("timm"), "weights": weights}
    if weights == PRETRAINED:
        _load(trunk, pretrained=True)
        known = ("hf_hub_id", "url", "license")
        record |= {key: trunk.pretrained_cfg[key] for key in known if key in trunk.pretrained_cfg}
        record["tensors_sha256"] = _digest(trunk)
    elif weights != RANDOM:
        file = Path(weights)
        try:
            _load(trunk, state=read_state(file))
        except ModelError as error:
            raise ModelError(error.what, file=file, remedy=error.remedy) from error
        record |= {"weights": file.name, "sha256": file_digest(file)}
    return {"trunks": {part: record}}


def _load(trunk: TimmTrunk, **source: Any) -> None:
    # Built again, since batch norm was frozen after its weights were read.
    loaded = TimmTrunk(trunk.name, last_stride=trunk.last_stride, **source)
    trunk.load_state_dict(loaded.state_dict())


def _digest(trunk: TimmTrunk) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(trunk.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
